"""The single commands of the contract, on files a researcher would have."""

import json

import nibabel
import numpy as np
import pytest

from mrtai.cli import main

AFFINE = np.diag([-4.0, -4.0, 4.0, 1.0])


def save(path, voxels):
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), AFFINE), path)
    return str(path)


def test_dose_of_the_reference_sphere_from_the_command_line(reference, tmp_path):
    case = np.load(reference / "voxel" / "C1_177Lu_4mm.npz")
    tia = save(tmp_path / "tia.nii.gz", case["activity_fraction"] * 1e6 / 0.064)  # 1 MBq s in 0.064 mL voxels
    rho = save(tmp_path / "rho.nii.gz", case["density_g_cm3"])
    dose, stats = tmp_path / "dose.nii.gz", tmp_path / "stats.json"
    assert main(["dose", "--tia", tia, "--density", rho, "--nuclide", "Lu-177", "--engine", "convolution", "--out", str(dose)]) == 0
    labels = tmp_path / "sphere.nii.gz"
    nibabel.save(nibabel.Nifti1Image((case["label"] == 1).astype(np.uint8), AFFINE), labels)
    (tmp_path / "sphere.json").write_text('{"1": "lesion_1"}')
    assert main(["measure", "--dose", str(dose), "--labels", str(labels), "--out", str(stats)]) == 0
    region = json.loads(stats.read_text())["regions"][0]
    assert region["name"] == "lesion_1"
    assert region["volume_ml"] == pytest.approx(0.064 * (case["label"] == 1).sum())
    expected_gy = case["dose_mGy_per_MBq_s"][case["label"] == 1].mean() * 1e-3
    # the bound
    assert region["absorbed_dose_gy"]["mean"] == pytest.approx(expected_gy, rel=0.005)


def test_a_ct_of_water_gives_the_dose_of_its_density(tmp_path):
    tia = np.zeros((21, 21, 21))
    tia[10, 10, 10] = 1e9
    # 0 HU is 1.0193 g/mL on Schneider's line
    ct = save(tmp_path / "ct.nii.gz", np.zeros((21, 21, 21)))
    rho = save(tmp_path / "rho.nii.gz", np.full((21, 21, 21), np.interp(0, (-97, 14), (0.930486, 1.03))))
    options = ["--tia", save(tmp_path / "tia.nii.gz", tia), "--nuclide", "Y-90", "--engine", "local"]
    assert main(["dose", *options, "--ct", ct, "--out", str(tmp_path / "a.nii.gz")]) == 0
    assert main(["dose", *options, "--density", rho, "--out", str(tmp_path / "b.nii.gz")]) == 0
    a, b = (np.asarray(nibabel.load(tmp_path / name).dataobj) for name in ("a.nii.gz", "b.nii.gz"))
    assert a[10, 10, 10] == pytest.approx(b[10, 10, 10], rel=1e-5)


def test_a_ct_of_elsewhere_is_refused_and_one_of_a_part_is_told(tmp_path, capsys):
    tia = save(tmp_path / "tia.nii.gz", np.full((20, 20, 20), 1e9))
    far, part = np.array(AFFINE), np.array(AFFINE)
    far[0, 3], part[0, 3] = 5000.0, -40.0
    out, water = tmp_path / "dose.nii.gz", np.zeros((20, 20, 20), np.int16)
    for name, affine in (("far", far), ("part", part)):
        nibabel.save(nibabel.Nifti1Image(water, affine), tmp_path / f"{name}.nii.gz")
    command = ["dose", "--tia", tia, "--nuclide", "Y-90", "--engine", "local", "--out", str(out), "--ct"]
    assert main([*command, str(tmp_path / "far.nii.gz")]) == 2
    assert "the CT does not lie where the activity is; found 100%" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, str(tmp_path / "part.nii.gz")]) == 0
    assert "CT_DOES_NOT_COVER: 50% of the activity" in capsys.readouterr().out


def test_a_dose_without_statistics_leaves_no_others_beside_it(tmp_path):
    tia, rho = save(tmp_path / "tia.nii.gz", np.full((9, 9, 9), 1e9)), save(tmp_path / "rho.nii.gz", np.ones((9, 9, 9)))
    command = ["dose", "--tia", tia, "--density", rho, "--nuclide", "Y-90", "--out", str(tmp_path / "dose.nii.gz"), "--engine"]
    assert main([*command, "monte-carlo", "--histories", "1000"]) == 0
    assert (tmp_path / "dose.sd.nii.gz").is_file()
    assert main([*command, "local"]) == 0
    assert not (tmp_path / "dose.sd.nii.gz").exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("region,time_h,activity_mbq,activity_sd_mbq\nliver,24,88,1,4,4\n", "line 2 has too many fields; found 2 beyond the named columns"),
        ("region,time_h,activity_mbq,activity_sd_mbq,\nliver,24,88,1,4\n", "line 2 has too many fields; found 1 beyond the named columns"),
        ("region,time_h,activity_mbq,activity_sd\nliver,24,88,1\n", "found unknown: 'activity_sd'"),
        ("region,time_h,activity_mbq,activity_mbq\nliver,24,88,1\n", "found twice: activity_mbq"),
    ],
)
def test_a_table_that_would_be_read_otherwise_than_meant_is_refused(tmp_path, capsys, table, says):
    (tmp_path / "tacs.csv").write_text(table)
    assert main(["fit", str(tmp_path / "tacs.csv"), "--nuclide", "Lu-177", "--out", str(tmp_path / "fits.json")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "fits.json").exists()


def test_empty_columns_at_the_end_of_a_spreadsheets_lines_are_passed_over(tmp_path):
    (tmp_path / "tacs.csv").write_text("region,time_h,activity_mbq,activity_sd_mbq,,\nliver,24,88,4,,\nliver,96,40,2,,\n")
    assert main(["fit", str(tmp_path / "tacs.csv"), "--nuclide", "Lu-177", "--out", str(tmp_path / "fits.json")]) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--nuclide", "../icrp107/Lu-177"], "unknown nuclide"),
        (["--nuclide", "Lu-177", "--protocol", "i131"], "the protocol is for another nuclide; found I-131 beside --nuclide Lu-177"),
        (["--nuclide", "Lu-177", "--method", "known-half-life", "--half-life-h", "typo=30"], "no such region in the table; found typo"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(tmp_path, capsys, options, says):
    (tmp_path / "tacs.csv").write_text("region,time_h,activity_mbq\nliver,24,88\nliver,96,40\n")
    assert main(["fit", str(tmp_path / "tacs.csv"), "--out", str(tmp_path / "fits.json"), *options]) == 2
    assert says in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "fits_curves").write_text("")
    (tmp_path / "tacs.csv").write_text("region,time_h,activity_mbq\nliver,24,88\nliver,96,40\n")
    tia = save(tmp_path / "tia.nii.gz", np.full((9, 9, 9), 1e9))
    fit = ["fit", str(tmp_path / "tacs.csv"), "--nuclide", "Lu-177", "--out"]
    dose = ["dose", "--tia", tia, "--density", tia, "--nuclide", "Y-90", "--engine", "monte-carlo", "--out"]
    before = sorted(tmp_path.rglob("*"))
    for command, out, says in (
        (fit, "fits.json", "fits_curves is a file"),
        (fit, "file/fits.json", "file is a file"),
        (fit, "folder", "the output is a folder"),
        (dose, "folder", "the output is a folder"),
        (["measure", "--dose", tia, "--labels", tia, "--out"], "folder", "the output is a folder"),
    ):
        assert main([*command, str(tmp_path / out)]) == 2
        assert says in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_arguments_are_told_as_json_where_that_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "study", "--json"])
    assert stop.value.code == 2
    told = json.loads(capsys.readouterr().err)
    assert told["code"] == "USAGE" and "--protocol" in told["error"]


def test_fits_of_a_table(tmp_path):
    rows = ["region,time_h,activity_mbq,activity_sd_mbq"]
    rows += [f"kidney_left,{t},{100 * 2 ** (-t / 50)},{5 * 2 ** (-t / 50)}" for t in (24, 96, 168)]
    rows += [f"spleen,{t},{100 * 2 ** (-t / 70)}," for t in (24, 96, 168)]
    (tmp_path / "tacs.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "fits.json"
    assert main(["fit", str(tmp_path / "tacs.csv"), "--nuclide", "Lu-177", "--out", str(out), "--administered-mbq", "7400"]) == 0
    fits = json.loads(out.read_text())
    assert (fits["schema"], fits["nuclide"], fits["next_scan"]) == ("mrtai.fits/1", "Lu-177", None)
    kidney, spleen = fits["regions"]
    assert kidney["tia_mbq_h"] == pytest.approx(100 * 50 / np.log(2), rel=1e-5)
    assert kidney["tiac_h"] == pytest.approx(100 * 50 / np.log(2) / 7400, rel=1e-5)
    assert kidney["tia_sd_mbq_h"] > 0
    assert spleen["kinetics"]["effective_half_life_h"] == pytest.approx(70, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region,time_h\nkidney,24\n", "columns activity_mbq are missing"),
        ("region,time_h,activity_mbq,activity_sd_mbq\nkidney,24,12;5,\n", "line 2, activity_mbq is no number"),
        ("region,time_h,activity_mbq,activity_sd_mbq\nkidney,24,12,0\n", "an uncertainty is not positive"),
        ("region,time_h,activity_mbq,activity_sd_mbq\nkidney,24,12,1\nkidney,24,11,1\n", "times must increase"),
        ("region,time_h,activity_mbq,activity_sd_mbq\n", "the table is empty"),
    ],
)
def test_bad_tables_are_refused_with_the_place(tmp_path, capsys, text, message):
    (tmp_path / "tacs.csv").write_text(text)
    assert main(["fit", str(tmp_path / "tacs.csv"), "--nuclide", "Lu-177", "--out", str(tmp_path / "fits.json")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "fits.json").exists()


def test_known_half_lives_come_from_the_command_line(tmp_path):
    (tmp_path / "tacs.csv").write_text("region,time_h,activity_mbq,activity_sd_mbq\nkidney_left,24,50,2\n")
    out = tmp_path / "fits.json"
    options = ["--nuclide", "Lu-177", "--method", "known-half-life", "--half-life-h", "kidney_left=48", "--out", str(out)]
    assert main(["fit", str(tmp_path / "tacs.csv"), *options]) == 0
    assert json.loads(out.read_text())["regions"][0]["tia_mbq_h"] == pytest.approx(50 * 2**0.5 * 48 / np.log(2), rel=1e-6)


def test_align_carries_a_spect_onto_the_first_ct(tmp_path):
    i, j, k = np.indices((48, 48, 48)) - 24.0
    body = np.where((i / 22) ** 2 + (j / 16) ** 2 + (k / 22) ** 2 < 1, 40.0, -1000.0)
    body[(i - 9) ** 2 + (j + 4) ** 2 + (k - 6) ** 2 < 25] = 300.0
    body[(i + 10) ** 2 + (j - 3) ** 2 + (k + 8) ** 2 < 36] = -700.0
    spot = np.exp(-((i - 9) ** 2 + (j + 4) ** 2 + (k - 6) ** 2) / 8)
    fixed = save(tmp_path / "fixed.nii.gz", body)
    moving, spect = (save(tmp_path / f"{n}.nii.gz", np.roll(v, (2, -1, 1), (0, 1, 2))) for n, v in (("moving", body), ("spect", spot)))
    out, transform = tmp_path / "aligned.nii.gz", tmp_path / "t.tfm"
    command = ["align", "--fixed", fixed, "--moving", moving, "--image", spect, "--out", str(out), "--transform", str(transform)]
    assert main(command) == 0
    carried = np.asarray(nibabel.load(out).dataobj)
    # back within a quarter of a voxel
    centre = [float((axis * carried).sum() / carried.sum()) for axis in np.indices(carried.shape)]
    assert centre == pytest.approx([33, 20, 30], abs=0.25)
    assert "Transform" in transform.read_text()


def test_a_bad_protocol_names_the_choices(tmp_path, capsys):
    assert main(["run", str(tmp_path), "--protocol", "nonsense", "--out", str(tmp_path / "case")]) == 2
    assert "choose ac225-psma, i131, lu177-dotatate, lu177-psma, y90-sirt" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text('nuclide = "Lu-177"\nagent = "x"\nexpected_scans = 3\nkinetics = "guess"\n')
    assert main(["run", str(tmp_path), "--protocol", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "case")]) == 2
    assert "required" in capsys.readouterr().err


def test_wrong_arguments_are_told_in_one_line(capsys):
    for arguments in (["run"], ["fit", "x.csv", "--administered-mbq", "-7400"], ["simulate", "--out", "x", "--times-h", "24,nan"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "--help"])
    assert stop.value.code == 0
    assert "lu177-dotatate" in capsys.readouterr().out


def phantom(tmp_path):
    tia = np.zeros((21, 21, 21))
    tia[8:13, 8:13, 8:13] = 1e9
    tia_path, rho = save(tmp_path / "tia.nii.gz", tia), save(tmp_path / "rho.nii.gz", np.ones((21, 21, 21)))
    return ["dose", "--tia", tia_path, "--density", rho, "--nuclide", "Lu-177", "--out", str(tmp_path / "dose.nii.gz")]


def test_a_monte_carlo_dose_comes_with_its_statistical_uncertainty(tmp_path):
    command = phantom(tmp_path)
    assert main([*command, "--engine", "monte-carlo", "--histories", "50000", "--seed", "3"]) == 0
    dose, sd = (np.asarray(nibabel.load(tmp_path / name).dataobj) for name in ("dose.nii.gz", "dose.sd.nii.gz"))
    inside = (slice(8, 13),) * 3
    # 25 000 electrons in 125 voxels: 200 each, of energies that differ by about their mean
    assert 0.01 < np.median(sd[inside] / dose[inside]) < 0.1


def test_a_material_map_changes_what_photons_meet(tmp_path):
    command = [*phantom(tmp_path), "--engine", "monte-carlo", "--histories", "200000"]
    doses = {}
    for name in ("water", "cortical_bone"):
        material = save(tmp_path / "m.nii.gz", np.full((21, 21, 21), 4))
        (tmp_path / "m.json").write_text(json.dumps({"4": name}))
        assert main([*command, "--material", material]) == 0
        doses[name] = np.asarray(nibabel.load(tmp_path / "dose.nii.gz").dataobj)[2:6, 8:13, 8:13].mean()
    # at one density bone's calcium takes more of 177Lu's photons and of their scatter below 100 keV
    assert doses["cortical_bone"] > 1.1 * doses["water"]


@pytest.mark.parametrize(
    ("names", "message"), [({"4": "butter"}, "unknown material"), ({"1": "water"}, "unknown material"), (None, "needs its names")]
)
def test_a_material_map_that_says_nothing_is_refused(tmp_path, capsys, names, message):
    material = save(tmp_path / "m.nii.gz", np.full((21, 21, 21), 4))
    if names is not None:
        (tmp_path / "m.json").write_text(json.dumps(names))
    assert main([*phantom(tmp_path), "--engine", "monte-carlo", "--material", material]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "dose.nii.gz").exists()


def test_options_of_monte_carlo_are_refused_elsewhere(tmp_path, capsys):
    for option in (["--histories", "1000"], ["--seed", "2"], ["--material", "m.nii.gz"]):
        assert main([*phantom(tmp_path), "--engine", "convolution", *option]) == 2
        assert option[0] in capsys.readouterr().err


def test_the_dose_of_an_alpha_emitter_is_that_of_its_chain(tmp_path):
    command = phantom(tmp_path)
    command[command.index("Lu-177")] = "Ac-225"
    assert main([*command, "--engine", "local"]) == 0
    dose = np.asarray(nibabel.load(tmp_path / "dose.nii.gz").dataobj)
    # 27.994 MeV of alphas and 0.66 MeV of electrons per decay of 225Ac with all its progeny (ICRP 107), 1 g/mL
    assert dose[10, 10, 10] == pytest.approx(1e9 * (27.994 + 0.66) * 1.602176634e-13 / 1e-3, rel=0.01)


def test_a_single_scan_is_fitted_with_its_agents_population_and_the_next_scan_proposed(tmp_path, capsys):
    table, out = tmp_path / "tacs.csv", tmp_path / "fits.json"
    table.write_text("region,time_h,activity_mbq,activity_sd_mbq\nkidney_left,72,60,1.8\nlesion_1,72,40,2\n")
    arguments = ["fit", str(table), "--nuclide", "Lu-177", "--agent", "dotatate", "--out", str(out), "--next-scan", "kidney_left,lesion_1"]
    assert main(arguments) == 0
    assert "next scan at" in capsys.readouterr().out
    document = json.loads(out.read_text())
    kidney, lesion = document["regions"]
    assert kidney["kinetics"]["model"] == "population"
    assert kidney["flags"] == []
    low, high = kidney["kinetics"]["tia_68_mbq_h"]
    assert low < kidney["tia_mbq_h"] < high
    assert lesion["kinetics"]["probability_off_20_percent"] > 0.05
    assert "LARGE_ERROR_LIKELY" in [flag["code"] for flag in lesion["flags"]]
    proposed = document["next_scan"]
    assert 72 < proposed["time_h"] <= 72 + 168
    assert all(region["relative_sd_then"] < region["relative_sd_now"] for region in proposed["regions"])
    assert {path.name for path in (tmp_path / "fits_curves").iterdir()} == {"kidney_left.png", "lesion_1.png"}


def test_an_earlier_cycles_fits_serve_the_next_cycle(tmp_path):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    rows = "".join(f"kidney_left,{t},{100 * 2 ** (-t / 70):.4f},{3 * 2 ** (-t / 70):.4f}\n" for t in (24, 96, 168))
    first.write_text("region,time_h,activity_mbq,activity_sd_mbq\n" + rows)
    second.write_text("region,time_h,activity_mbq,activity_sd_mbq\nkidney_left,24,78.85,2.4\n")
    common = ["--nuclide", "Lu-177", "--agent", "DOTATATE"]
    assert main(["fit", str(first), *common, "--out", str(tmp_path / "c1.json")]) == 0
    assert main(["fit", str(second), *common, "--prior", str(tmp_path / "c1.json"), "--out", str(tmp_path / "c2.json")]) == 0
    (kidney,) = json.loads((tmp_path / "c2.json").read_text())["regions"]
    assert "the patient's own kinetics of cycle 1" in kidney["kinetics"]["reason"]
    # 70 h lies half way out of the population; 6 % of the say stay with it
    assert kidney["tia_mbq_h"] == pytest.approx(100 * 70 / np.log(2), rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--agent", "nothing"], "no population kinetics for this agent"),
        (["--next-scan", "spleen"], "--next-scan: no such region in the table; found spleen; choose of kidney_left"),
        (["--next-scan", "kidney_left"], "next scan: no population kinetics for this region"),
        (["--method", "population"], "kidney_left: no population kinetics for this region"),
        (["--prior", "none.json"], "--prior none.json: the earlier cycle is missing"),
    ],
)
def test_what_a_fit_cannot_know_is_said_in_one_line(tmp_path, capsys, options, message):
    table = tmp_path / "tacs.csv"
    table.write_text("region,time_h,activity_mbq,activity_sd_mbq\nkidney_left,72,60,1.8\n")
    assert main(["fit", str(table), "--nuclide", "Lu-177", "--out", str(tmp_path / "fits.json"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "fits.json").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("kidney_left,24,60,2\nkidney_left,24,50,2\n", "times must increase"),
        ("kidney_left,24,0,\nkidney_left,96,0,\n", "no positive activity"),
        ("kidney_left,86400,60,2\nkidney_left,345600,20,1\n", "the times cannot be hours"),
        ("kidney_left,24,60,0\n", "an uncertainty is not positive"),
    ],
)
def test_impossible_curves_are_refused_and_leave_nothing(tmp_path, capsys, rows, message):
    table = tmp_path / "tacs.csv"
    table.write_text("region,time_h,activity_mbq,activity_sd_mbq\n" + rows)
    assert main(["fit", str(table), "--nuclide", "Lu-177", "--agent", "DOTATATE", "--out", str(tmp_path / "fits.json")]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tacs.csv"]
