"""A small case and its source made by hand: any grid, any regions, so that objects can be written without a whole run."""

import json

import numpy as np
from pydicom.uid import generate_uid

from mrtai.io.dicom_source import ScanSource, Source
from mrtai.io.read_case import Case
from mrtai.physics.resample import largest_share
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.io import dicom_maker as maker

TURN = np.radians(17)
TILT = np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])
SPIN = np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]])

# columns: directions of the x, y and z array axes in LPS
DIRECTIONS = {
    "axial": np.eye(3),
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
    "reversed slices": np.diag([1.0, 1.0, -1.0]),
    "oblique by 17 degrees": TILT @ SPIN,
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "prone": np.diag([-1.0, -1.0, 1.0]),
}


def grid_of(direction="axial", shape=(12, 20, 24), spacing_mm=(3.0, 3.0, 4.0), origin_mm=(-31.5, 17.25, -203.125)):
    return Grid(shape, np.array(spacing_mm), np.array(origin_mm), DIRECTIONS[direction])


def standard_labels(grid):
    """An asymmetric organ, a liver with two lesions, a ring, two parts, one voxel, a block at the edge."""
    k, j, i = np.indices(grid.shape)
    nz, ny, nx = grid.shape
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[((k - nz * 0.4) / (nz * 0.3)) ** 2 + ((j - ny * 0.3) / (ny * 0.25)) ** 2 + ((i - nx * 0.25) / (nx * 0.2)) ** 2 < 1] = 1
    voxels[(k >= 3) & (k <= 6) & (j >= 4) & (j <= 6) & (i == 5)] = 2
    voxels[3, 8, 6] = 3
    voxels[2:9, 12:18, 14:20] = 4
    voxels[3:8, 14:16, 16:18] = 0  # a hole through most slices
    voxels[1:3, 2:4, 18:21] = voxels[6:9, 2:5, 20:23] = 5
    voxels[0, 0, 0] = 6
    voxels[-3:, -4:, -2:] = 7
    names = ("liver", "lesion_1", "lesion_2", "kidney_left", "spleen", "stomach", "urinary_bladder")
    return Labels(voxels, dict(enumerate(names, start=1)), grid)


def row(name, kind, members, volume_ml, mean_gy):
    return {
        "name": name, "kind": kind, "members": members, "tracking_uid": None, "code": None, "verdict": "ok",
        "volume_ml": volume_ml, "mass_g": volume_ml * 1.05,
        "time_activity": {"time_h": [24.0, 96.0], "activity_mbq": [80.0, 30.0], "activity_sd_mbq": [4.0, None]},
        "kinetics": {"method": "auto", "model": "mono", "effective_half_life_h": 51.0, "effective_half_life_sd_h": 2.0},
        "tia_mbq_h": 5886.0, "tia_sd_mbq_h": 300.0, "tiac_h": 0.795,
        "absorbed_dose_gy": {
            "mean": mean_gy, "mean_sd": 0.06 * mean_gy, "min": 0.2 * mean_gy, "max": 2 * mean_gy, "d50": mean_gy, "d90": 0.6 * mean_gy,
            "dvh": {"dose_gy": [0.0, mean_gy, 2 * mean_gy], "volume_fraction": [1.0, 0.5, 0.0]},
        },
        "radiobiology": {"alpha_beta_gy": 2.6, "g": 0.05, "bed_gy": 1.1 * mean_gy, "eqd2_gy": 0.6 * mean_gy}
        if name.startswith("kidney")
        else {"alpha_beta_gy": None, "g": None, "bed_gy": None, "eqd2_gy": None},
    }  # fmt: skip


def made_case(labels, *, dose=None, dose_grid=None):
    grid = dose_grid or labels.grid
    if dose is None:
        ramp = np.indices(grid.shape).sum(axis=0) / 7 + np.indices(grid.shape)[2] ** 2 / 50
        dose = Image(ramp.astype(np.float32), Quantity.ABSORBED_DOSE, grid)
    on_dose = largest_share(labels, grid)
    lesions = [name for name in labels.names.values() if name.startswith("lesion")]
    rows = []
    for name in labels.names.values():
        mask = labels.mask(name)
        mean = float(dose.voxels[mask].mean(dtype=np.float64)) if grid is labels.grid else 1.0
        union = name == "liver" and lesions
        kind = "lesion" if name in lesions else "union" if union else "organ"
        shown = "liver_without_lesions" if union else name
        rows.append(row(shown, kind, [], float(mask.sum()) * labels.grid.voxel_ml, mean))
    if "liver" in labels.names.values() and lesions:
        whole = np.isin(labels.voxels, [v for v, n in labels.names.items() if n == "liver" or n in lesions])
        rows.append(row("liver", "union", ["liver_without_lesions", *lesions], float(whole.sum()) * labels.grid.voxel_ml, 1.0))
    rows.append(row("body", "body", [r["name"] for r in rows], 9000.0, 1.0))
    results = {
        "schema": "mrtai.results/1", "state": "draft", "provisional": False, "verdict": "ok",
        "patient": {"pseudonym": "P-0123456789abcdef"}, "cycle": 1,
        "administrations": [{"nuclide": "Lu-177", "agent": "DOTATATE", "activity_mbq": 7400.0, "time": "2026-03-02T09:30:00+01:00"}],
        "scans": [
            {"index": n, "series_uid_sha256": f"{n:064x}", "registration": {"moved": n > 1, "matrix": matrix(n).tolist()}} for n in (1, 2)
        ],
        "regions": rows, "engines": {"segmenter": "organs-ct@1.2.0", "dose": "convolution"},
    }  # fmt: skip
    manifest = {"models": {"organs-ct@1.2.0": "ab" * 32}, "code": {"version": "0.1.0"}, "written_at": "2026-03-10T12:00:00+00:00"}
    return Case(
        results=json.loads(json.dumps(results)), manifest=manifest, results_sha256="0" * 64, contours=labels, labels=on_dose, dose=dose,
        tia=Image(dose.voxels * np.float32(3e9), Quantity.TIME_INTEGRATED_ACTIVITY, grid),
        dose_rates=tuple(Image(dose.voxels * np.float32(f), Quantity.DOSE_RATE, grid) for f in (3e-6, 1e-6)),
        pdf=b"%PDF-1.4\n%an odd number of bytes\n%%EOF",
    )  # fmt: skip


def matrix(scan):
    found = np.eye(4)
    if scan > 1:
        found[:3, :3], found[:3, 3] = SPIN, (4.0, -7.5, 12.25)
    return found


def ct_on(grid, hours, frame):
    """A CT whose slices are those of a grid, in ascending order along row x column as headers are read."""
    series = maker.ct_series(maker.start_of(hours), np.zeros(grid.shape, np.int16), frame=frame)
    normal = np.cross(grid.direction[:, 0], grid.direction[:, 1])
    for k, header in enumerate(series):
        place = grid.origin_mm + grid.direction[:, 2] * k * grid.spacing_mm[2]
        header.ImagePositionPatient = [f"{x:.10g}" for x in place]
        header.ImageOrientationPatient = [f"{x:.12g}" for x in (*grid.direction[:, 0], *grid.direction[:, 1])]
        header.PixelSpacing = [grid.spacing_mm[1], grid.spacing_mm[0]]
    return sorted(series, key=lambda header: float(normal @ np.array(header.ImagePositionPatient, float)))


def made_source(*, on=None, **person):
    """Two scans with CT in two studies and frames of reference; the CT on the slices of a grid where one is given."""
    scans = []
    for n, hours in enumerate((24, 96), start=1):
        frame, study = f"1.2.3.4.{n}", f"1.2.3.{n}"
        spect = maker.pt_series(maker.start_of(hours), frame=frame)
        ct = ct_on(on, hours, frame) if on else maker.ct_series(maker.start_of(hours), frame=frame)
        for header in (*spect, *ct):
            header.StudyInstanceUID, header.TimezoneOffsetFromUTC = study, "+0100"
            header.SOPInstanceUID = generate_uid()
            for name, value in person.items():
                setattr(header, name, value)
            del header.PixelData
        scans.append(ScanSource(tuple(spect), tuple(ct)))
    return Source(tuple(scans), 0)


def made_nm_source(*, ct=True):
    """Two NM tomograms, with or without CT."""
    scans = []
    for n, hours in enumerate((24, 96), start=1):
        tomogram = maker.nm_tomogram(maker.start_of(hours), FrameOfReferenceUID=f"1.2.3.4.{n}", SOPInstanceUID=generate_uid())
        slices = maker.ct_series(maker.start_of(hours), frame=f"1.2.3.4.{n}") if ct else []
        for header in (tomogram, *slices):
            header.StudyInstanceUID = f"1.2.3.{n}"
            del header.PixelData
        scans.append(ScanSource((tomogram,), tuple(slices)))
    return Source(tuple(scans), 0)
