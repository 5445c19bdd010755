"""A small report made by hand: spheres and ellipsoids in an elliptic torso, three scans of 177Lu, local deposition.

Left and right differ (liver on the patient's right, spleen and a lesion on the left), so that a flipped picture is seen.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from mrtai.values.curve import Curve, Fit
from mrtai.values.dose import Dose
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol, Radiobiology
from mrtai.values.report import Aligned, Alignment, BiologicalDose, DoseStatistics, Dvh, RegionDose, Report
from mrtai.values.study import Administration, Cycle, InputFile, Override, TimePoint

ADMINISTERED_BQ = 7.4e9
TIMES_H = (24.1, 96.3, 168.0)
GIVEN_AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HEX = "3f9a5c1e" * 8

# centre (x, y, z) LPS and semi-axes in mm, concentration at t = 0 [Bq/mL], effective half-life [h]
ORGANS = {
    "liver": ((-70, -10, 60), (75, 65, 60), 2.2e5, 67.0),
    "spleen": ((85, 40, 70), (30, 28, 40), 7.0e5, 67.0),
    "kidney_left": ((60, 50, -20), (26, 24, 48), 1.1e6, 52.0),
    "kidney_right": ((-60, 50, -30), (26, 24, 48), 1.05e6, 50.0),
    "urinary_bladder": ((0, -20, -140), (32, 32, 28), 3.0e5, 12.0),
    "lesion_1": ((-95, -25, 75), (18, 18, 18), 3.5e6, 80.0),
    "lesion_2": ((25, 65, -95), (16, 14, 16), 2.2e6, 84.0),
}
KIDNEY = Radiobiology(2.6, 2.8, "Barone 2005, Wessels 2008 (MIRD 20)")
RATE_GY_PER_BQ_S_PER_ML = 0.14792 * 1.602176634e-13 / 1e-3 / 1.05


def ellipsoid(grid, centre, axes):
    xyz = (np.arange(n) * step + start for n, step, start in zip(grid.shape[::-1], grid.spacing_mm, grid.origin_mm, strict=True))
    x, y, z = (((position - c) / a) ** 2 for position, c, a in zip(xyz, centre, axes, strict=True))
    return z[:, None, None] + y[None, :, None] + x[None, None, :] <= 1


def labels_on(grid):
    voxels = np.zeros(grid.shape, np.uint8)
    for value, (centre, axes, _, _) in enumerate(ORGANS.values(), start=1):
        voxels[ellipsoid(grid, centre, axes)] = value
    return Labels(voxels, dict(enumerate(ORGANS, start=1)), grid, origin="simulator (true contours of the virtual patient)")


def ct_on(grid):
    torso = ellipsoid(grid, (0, 10, 0), (165, 115, 400))
    hounsfield = np.where(torso, 20, -1000)
    for side in (-1, 1):
        hounsfield[ellipsoid(grid, (side * 80, 0, 165), (60, 75, 60))] = -780
    hounsfield[ellipsoid(grid, (0, 75, 0), (19, 19, 400))] = 320
    labels = labels_on(grid).voxels
    for value, contrast in enumerate((60, 55, 40, 40, 5, 80, 420), start=1):
        hounsfield[labels == value] = contrast
    noise = np.random.default_rng(1).normal(0, 9, grid.shape)
    return Image(np.where(hounsfield > -1000, hounsfield + noise, -1000).astype(np.int16), Quantity.HOUNSFIELD, grid)


def blurred(voxels):
    kernel = np.array([0.25, 0.5, 0.25])
    for axis in range(3):
        voxels = np.apply_along_axis(np.convolve, axis, voxels, kernel, mode="same")
    return voxels


def mono(region, volume_ml):
    _, _, concentration, half_life_h = ORGANS[region]
    a0, rate = concentration * volume_ml, np.log(2) / half_life_h
    t_h = np.array(TIMES_H)
    activity = a0 * np.exp(-rate * t_h) * np.array([1.03, 0.97, 1.02])
    tia_bq_s = a0 / rate * 3600
    return Fit(
        curve=Curve(region, t_h, activity, 0.06 * activity),
        method="auto",
        model="mono",
        parameters={"a0_bq": a0, "rate_per_h": rate},
        covariance=np.array([[(0.05 * a0) ** 2, 0.2 * 0.05 * a0 * 0.04 * rate], [0.2 * 0.05 * a0 * 0.04 * rate, (0.04 * rate) ** 2]]),
        terms=np.array([[a0, rate]]),
        tia_bq_s=tia_bq_s,
        tia_sd_bq_s=0.055 * tia_bq_s,
        effective_half_life_h=half_life_h,
        fraction_before_first_scan=float(1 - np.exp(-rate * t_h[0])),
        fraction_after_last_scan=float(np.exp(-rate * t_h[-1])),
        reason="three scans, AICc prefers mono",
        goodness={"chi2_reduced": 0.8, "r_squared": 0.999},
        weights={"mono": 0.93, "bi": 0.07},
    )


def statistics(dose_gy, relative_sd=0.055):
    ordered = np.sort(dose_gy.ravel())[::-1]
    percentile = {f"d{p}": float(ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))]) for p in (98, 90, 70, 50, 10, 2)}
    edges = np.linspace(0, ordered[0], 120)
    fraction = [(ordered >= edge).mean() for edge in edges]
    mean = float(ordered.mean())
    return DoseStatistics(
        mean_gy=mean,
        mean_sd_gy=relative_sd * mean,
        voxel_sd_gy=float(ordered.std()),
        min_gy=float(ordered[-1]),
        max_gy=float(ordered[0]),
        percentiles_gy=percentile,
        by_radiation_gy={"electron": 0.96 * mean, "photon": 0.04 * mean},
        dvh=Dvh(tuple(edges), tuple(fraction)),
    )


def biological(mean_gy, half_life_h):
    g = 2.8 / (2.8 + half_life_h)
    bed = mean_gy + g * mean_gy**2 / 2.6
    return BiologicalDose(KIDNEY, g, bed, bed / (1 + 2 / 2.6))


def region(name, kind, masks, dose_gy, voxel_ml, **changes):
    inside = np.logical_or.reduce([masks[member] for member in changes.get("members", ()) or (name,)])
    volume_ml = float(inside.sum() * voxel_ml)
    member = name if name in ORGANS else changes["members"][0]
    fit = mono(member, volume_ml)
    dose = statistics(dose_gy[inside])
    kidney = name.startswith("kidney")
    values = {
        "members": (),
        "code": {"kidney_left": "SCT:18639004", "kidney_right": "SCT:9846003", "liver": "SCT:10200004"}.get(name),
        "source_name": None,
        "found_in_scans": (1, 2, 3),
        "volume_ml": volume_ml,
        "mass_kg": volume_ml * 1.05e-3,
        "fit": replace(fit, curve=replace(fit.curve, region=name)),
        "dose": dose,
        "biological": biological(dose.mean_gy, fit.effective_half_life_h) if kidney else None,
        "flags": (),
    }
    return RegionDose(name=name, kind=kind, **{**values, **changes})


def scans(grid, labels, ct_grid):
    ct = ct_on(ct_grid)
    torso = ellipsoid(grid, (0, 10, 0), (165, 115, 400))
    points = []
    for index, t_h in enumerate(TIMES_H, start=1):
        concentration = np.where(torso, 1.5e4 * 0.5 ** (t_h / 60), 0.0)
        for value, (_, _, c0, half_life_h) in enumerate(ORGANS.values(), start=1):
            concentration[labels.voxels == value] = c0 * 0.5 ** (t_h / half_life_h)
        spect = Image(blurred(concentration).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, grid)
        noisy = (Flag("NEGATIVE_VOXELS", Severity.INFO, "0.3 % of the voxels are negative.", "None needed; they are kept."),) * (index == 3)
        started = GIVEN_AT + timedelta(hours=t_h)
        points.append(TimePoint(index, started, t_h, 1800.0, spect, ct, None, HEX, "scan", "header", flags=noisy))
    return tuple(points)


def tia_voxels(grid, labels):
    voxels = np.zeros(grid.shape)
    for value, (_, _, c0, half_life_h) in enumerate(ORGANS.values(), start=1):
        voxels[labels.voxels == value] = c0 * half_life_h / np.log(2) * 3600
    return blurred(voxels)


def regions_of(masks, dose_gy, voxel_ml):
    cut = Flag(
        "ORGAN_CUT_BY_VIEW",
        Severity.REVIEW,
        "The bladder touches the last slice of the field of view, so part of it may be missing.",
        "Check the contour; take the dose as that of the visible part.",
    )
    gone = Flag(
        "TIA_NOT_INTEGRABLE",
        Severity.WITHHELD,
        "Activity rises from the second to the third scan; no method can continue this curve.",
        "Look at the contours in scan 3, or add a later scan.",
    )
    no_lq = Flag("NO_RADIOBIOLOGY", Severity.INFO, "The protocol sets no α/β for this region.", "Set them in the protocol if needed.")
    common = (masks, dose_gy, voxel_ml)
    withheld = {"fit": None, "dose": None, "biological": None, "flags": (gone,)}
    return (
        region("liver", "organ", *common, flags=(no_lq,)),
        region("spleen", "organ", *common, flags=(no_lq,)),
        region("kidney_left", "organ", *common),
        region("kidney_right", "organ", *common),
        region("urinary_bladder", "organ", *common, flags=(cut, no_lq)),
        region("lesion_1", "lesion", *common, flags=(no_lq,)),
        region("lesion_2", "lesion", *common, **withheld),
        region("kidneys", "union", *common, members=("kidney_left", "kidney_right")),
        region("tumour_total", "union", *common, members=("lesion_1", "lesion_2")),
    )


def sample_report(*, shape=(40, 40, 40), spacing_mm=(9.0, 9.0, 9.0), with_ct=True):
    """Return the report on a grid of ``shape`` (z, y, x) and ``spacing_mm`` (x, y, z)."""
    grid = Grid.axial(shape, spacing_mm)
    ct_shape = tuple(2 * n for n in shape)
    ct_grid = Grid.axial(ct_shape, np.array(spacing_mm) / 2)
    labels = labels_on(grid)
    points = scans(grid, labels, ct_grid)
    if not with_ct:
        points = tuple(replace(point, ct=None) for point in points)
    tia = tia_voxels(grid, labels)
    dose_gy = tia * RATE_GY_PER_BQ_S_PER_ML
    body = ellipsoid(grid, (0, 10, 0), (165, 115, 400))
    density = Image(np.where(body, 1.02e-3, 1.2e-6).astype(np.float32), Quantity.DENSITY, grid)
    alignments = tuple(Alignment(np.eye(4), n > 0, 1.2 if n else 0.0, 1.0, 1.1, 0.95, 0.97) for n in range(3))
    override = Override("administered_mbq", "7250", "7400")
    changed = Flag(
        "ADMINISTRATION_OVERRIDDEN",
        Severity.REVIEW,
        "study.toml replaces the header's administered activity of 7250 MBq by 7400 MBq (2.1 %).",
        "Confirm which one the dose calibrator showed.",
    )
    given = Administration("Lu-177", "DOTATATE", ADMINISTERED_BQ, GIVEN_AT)
    inputs = tuple(InputFile(f"scan{n}/spect.nii.gz", HEX) for n in (1, 2, 3))
    cycle = Cycle("P-3f9a5c1e22d0", 1, given, points, (override,), (changed,), inputs)
    masks = {name: labels.mask(name) for name in ORGANS}
    electron = Image((0.96 * dose_gy).astype(np.float32), Quantity.ABSORBED_DOSE, grid)
    photon = Image((0.04 * dose_gy).astype(np.float32), Quantity.ABSORBED_DOSE, grid)
    return Report(
        protocol=Protocol("lu177-dotatate", HEX, "Lu-177", "DOTATATE", 3, "auto", "convolution", 0.06, {"kidneys": KIDNEY}),
        aligned=Aligned(cycle, tuple(p.spect for p in points), alignments, 0, density, body),
        contours=labels,
        labels=labels,
        regions=regions_of(masks, dose_gy, grid.voxel_ml),
        tia=Image(tia.astype(np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, grid),
        dose=Dose({"electron": electron, "photon": photon}),
        provisional=False,
        engines={"aligner": "rigid", "segmenter": "given-labels", "kinetics": "auto", "dose": "convolution", "check": "none"},
    )
