"""Dose by a network that takes back what blur and noise did to the scans: convolution's dose times what the network answers."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.dose_input import checked
from mrtai.engines.dose_net_envelope import RECOVERED, outside
from mrtai.engines.dose_net_input import DOSE_NET_CONTRACT, DOSE_TASK, PATCH, answered, as_scanned, body_box, dose_input
from mrtai.engines.onnx_session import kept_session, unusable
from mrtai.engines.prepare import filled_up
from mrtai.physics.resample import cropped
from mrtai.ports import DoseEngine
from mrtai.values.bundle import Network
from mrtai.values.dose import Dose
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError

Floats = NDArray[np.float32]

PLANES: Final = 2
OVERLAP: Final = 16
"""Voxels that a window shares with the next: the network sees little further than that."""


@dataclass(frozen=True, slots=True, eq=False)
class NeuralDose:
    """Convolution's dose, deblurred and denoised by ``model``; outside what that has learned, convolution's own dose with a flag.

    Of a TIA map with recovery, which has given back what blur moved, it corrects what recovery leaves.

    Attributes:
        convolution: the engine whose dose is the network's input, and what it falls back to.
        nuclide: name of what decays.
        fwhm_mm: resolution of the scans that the TIA map was made of.
        contours: regions of the patient, whose blur is taken back first; None where nobody drew any.
        recovered: whether the TIA map has given back their blur already.
        device: ``cpu`` or ``cuda``; ``threads`` of the CPU.
    """

    convolution: DoseEngine
    model: Network
    nuclide: str
    fwhm_mm: float
    contours: Labels | None = None
    recovered: bool = False
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.model.task != DOSE_TASK:
            raise DosimetryError(
                "this model gives no dose",
                where=f"model {self.model.name}",
                found=f"task {self.model.task}",
                remedy="choose a model of dose; mrtai models list shows them",
                code="WRONG_MODEL",
            )

    def with_contours(self, contours: Labels, *, recovered: bool = False, fwhm_mm: float | None = None) -> "NeuralDose":
        """Return the engine for a patient with these regions, on the TIA map's grid; see ``ports.ContourDoseEngine``."""
        # without any region nothing was given back
        recovered = recovered and bool(contours.voxels.any())
        return replace(self, contours=contours, recovered=recovered, fwhm_mm=fwhm_mm or self.fwhm_mm)

    def __call__(self, tia: Image, density: Image) -> Dose:
        """Return the dose maps [Gy] with the network's own error as ``sd``; see ``ports.DoseEngine``.

        The energy absorbed in the field is that of the convolution. Photon and electron share a voxel's dose as they do there.
        """
        checked(tia, density)
        plain = self.convolution(tia, density)
        if self.recovered and RECOVERED not in self.model.envelope:
            raise unusable(self.model, "nothing of maps with recovery, which dose-net knows from 0.2.0 on")
        elsewhere = self.contours is not None and not self.contours.grid.same_as(tia.grid)
        seen = tia if elsewhere or not self.recovered else as_scanned(tia, density, self._regions(), self.fwhm_mm)
        found = outside(self.nuclide, seen, density, self.fwhm_mm, self.model.envelope, recovered=self.recovered)
        if elsewhere:
            found = [*found, "contours on another grid"]
        if found:
            return replace(plain, flags=(*plain.flags, outside_flag(found, recovered=self.recovered)))
        total = plain.total.voxels
        dose, sd = self.answered(tia, density, total)
        ratio = np.divide(dose, total, out=np.zeros_like(dose), where=total > 0)
        parts = {kind: replace(part, voxels=part.voxels * ratio) for kind, part in plain.parts.items()}
        error = Image(sd, Quantity.ABSORBED_DOSE, tia.grid)
        return Dose(parts, sd=error, flags=plain.flags, deblurred=not self.recovered, learned=True)

    def _regions(self) -> NDArray[np.integer] | None:
        return None if self.contours is None or not self.contours.voxels.any() else self.contours.voxels

    def answered(self, tia: Image, density: Image, convolved_gy: Floats) -> tuple[Floats, Floats]:
        """Return dose and sd [Gy], ``(z, y, x)``, by the network, whatever the envelope says; ``convolved_gy`` by convolution."""
        box = body_box(density)
        given, part = convolved_gy[box], cropped(tia.grid, box)
        regions = self._regions()
        cut = [Image(image.voxels[box], image.quantity, part) for image in (tia, density)]
        shown = dose_input(given, cut[0], cut[1], None if regions is None else regions[box], self.fwhm_mm, recovered=self.recovered)
        session = kept_session(self.model, self.device, self.threads)
        # the answer to maps as scanned comes first, that to maps with recovery second; ONNX Runtime calculates both
        logs = windowed(session, shown.channels, session.get_outputs()[int(self.recovered)].name)
        if len(logs) != PLANES or not np.isfinite(logs).all():
            raise unusable(self.model, f"an answer of {len(logs)} planes, {PLANES} of finite numbers needed")
        dose, sd = answered(logs, shown.base_gy)
        factor = _energy(given, density.voxels[box]) / _energy(dose, density.voxels[box])
        return _filled(dose * factor, box, tia.grid), _filled(sd * factor, box, tia.grid)


def outside_flag(found: Any, *, recovered: bool = False) -> Flag:
    """Return the flag of a case that the network cannot answer for."""
    left = "noise is in it, and what recovery leaves of blur" if recovered else "blur and noise are in it"
    text = f"The neural engine has not learned this case: {', '.join(found)}. The dose is that of the convolution."
    return Flag("NEURAL_OUTSIDE", Severity.REVIEW, text, f"Take the dose as convolution's: {left}.")


def windowed(session: Any, image: Floats, output: str) -> Floats:
    """Return the answer ``(planes, z, y, x)`` of that name to an input ``(channels, z, y, x)``, window by window, blended."""
    size = image.shape[1:]
    padded = filled_up(image, PATCH, DOSE_NET_CONTRACT.channels)
    name, weight, weights = session.get_inputs()[0].name, _weight(), np.zeros(padded.shape[1:], np.float32)
    total: Floats | None = None
    starts = [window_starts(n, p) for n, p in zip(padded.shape[1:], PATCH, strict=True)]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                place = (slice(z, z + PATCH[0]), slice(y, y + PATCH[1]), slice(x, x + PATCH[2]))
                (answer,) = session.run([output], {name: np.ascontiguousarray(padded[(slice(None), *place)])[None]})
                total = np.zeros((len(answer[0]), *padded.shape[1:]), np.float32) if total is None else total
                total[(slice(None), *place)] += answer[0] * weight
                weights[place] += weight
    assert total is not None
    return (total / weights)[:, : size[0], : size[1], : size[2]]


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows begin along one axis: evenly spread, at least ``OVERLAP`` voxels shared with the next."""
    count = int(np.ceil((length - window) / (window - OVERLAP))) + 1
    return [0] if count <= 1 else [round(n * (length - window) / (count - 1)) for n in range(count)]


def _weight() -> Floats:
    """Return a tent over a window, so that its rim counts little."""
    axes = [np.minimum(np.arange(n) + 1, n - np.arange(n)).clip(max=OVERLAP) for n in PATCH]
    weight = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return np.asarray(weight / weight.max(), np.float32)


def _energy(dose_gy: Floats, density: NDArray[Any]) -> float:
    return float((dose_gy * density).sum(dtype=np.float64)) or 1.0


def _filled(values: Floats, box: tuple[slice, ...], grid: Grid) -> Floats:
    full = np.zeros(grid.shape, dtype=np.float32)
    full[box] = values
    return full
