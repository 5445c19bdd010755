"""Codes of regions say what the region is, and no two regions share one of ours."""

import csv
from importlib.resources import files

import numpy as np
import pytest

from mrtai.io.dicom_write import Choices, write_objects
from mrtai.io.dicom_write.codes import category_and_type
from mrtai.io.proof import prove
from mrtai.io.region_names import SourceRegion, own_code, region_concept, region_names, require_free_names
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from tests.io.case_maker import grid_of, made_case, made_source


def coded(name):
    _, kind, side = category_and_type(name, "organ")
    return kind.CodingSchemeDesignator, kind.CodeValue, kind.CodeMeaning, side.CodeMeaning if side else ""


def test_the_left_subclavian_artery_is_not_coded_as_the_right_one():
    assert coded("subclavian_artery_left") == ("SCT", "36765005", "Subclavian artery", "Left")
    assert coded("subclavian_artery_right") == ("SCT", "36765005", "Subclavian artery", "Right")
    # 29700009 is the right subclavian artery, whatever side stands beside it
    assert region_names([SourceRegion(1, "artery", "29700009", "right")]) == {1: "subclavian_artery_right"}


def test_meanings_are_those_of_the_codes():
    meanings = {"vertebrae_L5": "L5 vertebra", "rib_left_1": "First rib", "rib_right_1": "First rib", "clavicula_left": "Clavicle"}
    meanings |= {"autochthon_left": "Deep muscle of back", "iliac_vena_left": "Common iliac vein", "red_marrow": "Bone marrow"}
    assert {name: region_concept(name)[1] for name in meanings} == meanings
    table = (files("mrtai") / "data" / "regions.csv").read_text("utf-8")
    rows = [row for row in csv.DictReader(line for line in table.splitlines() if not line.startswith("#")) if row["code"]]
    by_code = {}
    for row in rows:
        by_code.setdefault(row["code"], set()).add(row["meaning"])
    assert all(len(said) == 1 and all(said) for said in by_code.values())


@pytest.mark.parametrize("name", ["liver_vessels", "liver_segment_1", "liver_cyst"])
def test_a_part_of_the_liver_is_not_coded_as_the_liver(name):
    assert coded(name)[0] == "99MRTAI"
    assert coded("liver_without_lesions")[1] == coded("liver")[1] == "10200004"


def test_a_known_code_wins_over_a_name_that_begins_like_a_lesions():
    sources = [SourceRegion(1, "Metabolic liver volume", "10200004"), SourceRegion(2, "met 3"), SourceRegion(3, "GTV", "4147007")]
    # a metastasis coded as the organ that it lies in is no organ
    sources += [SourceRegion(4, "GTV liver met", "10200004"), SourceRegion(5, "tumor_2", "10200004")]
    assert region_names(sources) == {1: "liver", 2: "lesion_1", 3: "lesion_2", 4: "lesion_3", 5: "lesion_4"}


def test_codes_of_ours_fit_and_differ():
    names = ["submandibular_gland_left", "submandibular_gland_right", "左耳下腺腫瘍", "body", "remainder", "x" * 70, "a^b=c", "a b", "ab"]
    codes = [own_code(name) for name in names]
    assert len(set(codes)) == len(names)
    assert all(code.isascii() and 0 < len(code) <= 16 for code in codes)
    assert own_code("body") == "BODY"


def drawn(*names):
    grid = grid_of()
    voxels = np.zeros(grid.shape, np.uint8)
    for n in range(1, len(names) + 1):
        voxels[1 : 4 + n, n * 2 : n * 2 + 2, 3:9] = n
    return made_case(Labels(voxels, dict(enumerate(names, 1)), grid))


def test_unusual_names_are_written_and_proven(tmp_path):
    case, source = (
        drawn("左耳下腺腫瘍" * 8, "submandibular_gland_left", "submandibular_gland_right", "liver_vessels", "a\"b'c<d>^=", "liver"),
        made_source(),
    )
    prove(write_objects(case, source, tmp_path, Choices()), case, source, Choices())


@pytest.mark.parametrize("names", [("sali\\vary", "liver"), ("a\nb", "liver"), (" spl een ", "liver"), ("x" * 70 + "a", "x" * 70 + "b")])
def test_a_name_that_no_label_can_hold_is_refused_before_anything_is_written(names, tmp_path):
    with pytest.raises(DosimetryError) as refused:
        write_objects(drawn(*names), made_source(), tmp_path, Choices())
    assert refused.value.code == "REGION_NAME" and not list(tmp_path.iterdir())
    if " spl een " not in names:  # blanks around a label are taken away where it is read
        with pytest.raises(DosimetryError, match="DICOM label"):
            require_free_names([SourceRegion(n, name) for n, name in enumerate(names, 1)], "labels.json")
