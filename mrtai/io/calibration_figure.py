"""The picture of a recovery curve: spheres as measured, the fitted curve and its uncertainty."""

from dataclasses import replace
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from mrtai.io.figures import CURVE, INK
from mrtai.physics.calibrate import CameraFit
from mrtai.physics.recovery import LEAST_RECOVERY, coefficient, curve_sd

POINTS: Final = 160
BEYOND: Final = 2.5
"""The curve is drawn on to volumes that much smaller and larger than the spheres."""


def recovery_figure(fit: CameraFit, *, truth: list[tuple[float, float]] | None = None) -> Figure:
    """Return recovery by volume with the curve's band of one and two standard uncertainties.

    ``truth`` adds pairs of volume [mL] and coefficient that are known otherwise.
    """
    if fit.recovery is None:
        raise ValueError("recovery figure: a fit without a curve")
    curve = fit.recovery
    sizes_ml = np.array([one.volume_ml for one in fit.spheres])
    volume_ml = np.geomspace(sizes_ml.min() / BEYOND, sizes_ml.max() * BEYOND, POINTS)
    rc = np.array([coefficient(curve, v) for v in volume_ml])
    sd = rc * [curve_sd(curve, v) for v in volume_ml]
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.fill_between(volume_ml, rc - 2 * sd, rc + 2 * sd, color=CURVE, alpha=0.12, lw=0)
    axis.fill_between(volume_ml, rc - sd, rc + sd, color=CURVE, alpha=0.22, lw=0, label="± 1 and 2 standard uncertainties")
    logistic = f"1/(1 + ({curve.beta_ml:.3g} mL/v)^{curve.gamma:.3g})"
    if curve.gaussian is not None:
        plain = [coefficient(replace(curve, gaussian=None), v) for v in volume_ml]
        axis.plot(volume_ml, plain, color=INK, lw=0.9, ls="--", label=f"{logistic}, not used")
    used = logistic if curve.gaussian is None else f"Gaussian of {curve.gaussian.fwhm_mm:.3g} mm, plateau {curve.gaussian.plateau:.3g}"
    axis.plot(volume_ml, rc, color=CURVE, lw=1.6, label=used)
    measured_sd = [float(np.hypot(one.noise_sd, fit.between_spheres_sd)) for one in fit.spheres]
    axis.errorbar(
        sizes_ml, [one.coefficient for one in fit.spheres], measured_sd, fmt="o", ms=4, color=INK, capsize=2.5, lw=1, label="spheres"
    )
    if truth:
        axis.plot(*zip(*truth, strict=True), "x", ms=6, color="#D55E00", label="without noise")
    axis.axhline(LEAST_RECOVERY, color=INK, lw=0.8, ls=":")
    axis.annotate(f"{LEAST_RECOVERY:g}", (volume_ml[0], LEAST_RECOVERY), (2, 3), textcoords="offset points", fontsize=7.5)
    axis.set_xscale("log")
    axis.set_xlabel("volume [mL]", fontsize=8)
    axis.set_ylabel("recovery coefficient", fontsize=8)
    axis.set_ylim(0, max(1.1, max(one.coefficient for one in fit.spheres) + 0.1))
    axis.set_xlim(volume_ml[0], volume_ml[-1])
    axis.legend(fontsize=7.5, frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7.5)
    axis.grid(alpha=0.25, lw=0.6)
    return figure
