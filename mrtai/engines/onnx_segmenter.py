"""Organs drawn on a CT by a network that runs in ONNX Runtime: windows over the whole scan, blended, cleaned and brought back.

A session is made once for a model and device and kept, so that the next case starts at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.onnx_session import answer_of, session_of
from mrtai.engines.own_range import for_image
from mrtai.engines.prepare import STEP, around_body, filled_up, labels_on, prepared
from mrtai.physics.contour_gates import contour_flags
from mrtai.physics.glands import with_gland_flags
from mrtai.values.bundle import Bundle
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import Aligned

Scores = NDArray[np.float32]
Progress = Callable[[str, float], None]

OVERLAP: Final = 0.5

LEAST_EXTENT_MM: Final = 60.0
"""A CT thinner than this shows no organ whole, and no network was trained on it."""

DISTURBED_BY_NOISE: Final = 20.0
DISTURBED_BY_OFFSET: Final = 8.0
"""Of the second drawing, in the channel's unit [HU]: what a low dose and another day's calibration may do."""

LEAST_PART: Final = 0.1
"""Parts of an organ smaller than this share of its largest are taken for errors and removed."""


def quiet(what: str, done: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, eq=False)
class OnnxSegmenter:
    """Draws the regions of ``bundle`` on the reference scan's CT; fills ``ports.Segmenter``."""

    bundle: Bundle
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        quantities = [channel.quantity for channel in self.bundle.contract.channels]
        if self.bundle.task != "organs" or quantities != ["HU"]:
            raise DosimetryError(
                "this model does not draw organs on a CT",
                where=f"model {self.bundle.name}",
                found=f"it draws {self.bundle.task} on {', '.join(quantities)}",
                remedy="choose a model of organs; mrtai models list shows them",
                code="WRONG_MODEL",
            )

    def __call__(self, aligned: Aligned) -> Labels:
        """Return the organs on the reference scan's CT; refuses a study without CT."""
        ct = aligned.cycle.time_points[aligned.reference].ct
        if ct is None:
            raise DosimetryError(
                "no CT to draw organs on",
                where=f"scan {aligned.cycle.time_points[aligned.reference].index}",
                found="a SPECT alone",
                remedy="send the CT of the same examination, or give contours with --labels",
                code="NO_CT",
            )
        return with_gland_flags(_without_body(self.drawn(ct)), ct, aligned.cycle.administration.agent)

    def drawn(self, ct: Image, progress: Progress = quiet) -> Labels:
        """Return the regions of a CT on its own grid, ``body`` among them, with flags where a person must look."""
        require_ct(ct)
        maps = [(ct.voxels, ct.grid)]
        bundle = replace(self.bundle, contract=for_image(self.bundle.contract, maps))
        image, grid = around_body(*prepared(maps, bundle.contract), bundle.contract)
        shares, names = self._shares(bundle, image, lambda what, done: progress(what, 0.5 * done))
        found = cleaned(shares.argmax(axis=0).astype(np.uint8), names)
        again, _ = self._shares(bundle, _disturbed(image, bundle), lambda what, done: progress(what, 0.5 + 0.5 * done))
        _half_a_voxel_back(again)
        doubt = disagreement(found, cleaned(again.argmax(axis=0).astype(np.uint8), names), names)
        # two drawings know more than one
        shares += again
        del again
        shares *= 0.5
        _yield_crumbs(shares, cleaned(shares.argmax(axis=0).astype(np.uint8), names), names)
        labels = Labels(labels_on(shares, grid, ct.grid), names, ct.grid, origin=self.bundle.label)
        flags = contour_flags(labels, ct, doubt, self.bundle.envelope)
        return replace(labels, flags=flags).with_flags(cautions(self.bundle, self.bundle.classes.values()))

    def _shares(self, bundle: Bundle, image: Scores, progress: Progress) -> tuple[Scores, dict[int, str]]:
        return by_name(bundle, scores(bundle, image, self.device, self.threads, progress))


def cautions(bundle: Bundle, names: Iterable[str]) -> dict[str, tuple[Flag, ...]]:
    """Return what reports must say of a model that does less well than it should: of the regions it names, else of all and of the case."""
    if not bundle.caution:
        return {}
    remedy = "Look at the contour; give an edited one with --labels."
    told = Flag("MODEL_CAUTION", Severity.REVIEW, f"{bundle.caution}.", remedy)
    if bundle.caution_regions:
        return dict.fromkeys(set(names) & set(bundle.caution_regions), (told,))
    brief = Flag("MODEL_CAUTION", Severity.REVIEW, f"Drawn by {bundle.label}, which misses its accuracy aims.", remedy)
    return {**dict.fromkeys(names, (brief,)), "": (told,)}


def _without_body(labels: Labels) -> Labels:
    body = _body(labels.names)
    names = {value: name for value, name in labels.names.items() if value != body}
    return replace(labels, voxels=np.where(labels.voxels == body, 0, labels.voxels), names=names)


def _body(names: Mapping[int, str]) -> int:
    """Return the label of the body in no region: the background's where the model does not tell the two apart."""
    return next((value for value, name in names.items() if name == "body"), 0)


def _yield_crumbs(shares: Scores, found: NDArray[np.uint8], names: Mapping[int, str]) -> None:
    """Give the share of a part that was removed to the body, in place, so that interpolation does not bring it back."""
    strongest = shares.argmax(axis=0)
    for value in names:
        removed = (strongest == value) & (found != value)
        shares[_body(names)][removed] += shares[value][removed]
        shares[value][removed] = 0


def scores(bundle: Bundle, image: Scores, device: str = "cpu", threads: int = 1, progress: Progress = quiet) -> Scores:
    """Return the share of each class, ``(classes, z, y, x)``, of an input ``(channels, z, y, x)``; shares of a voxel sum to 1."""
    session = session_of(bundle, device, threads)
    patch, size = bundle.contract.patch, image.shape[1:]
    padded = filled_up(image, patch, bundle.contract.channels)
    starts = [window_starts(n, p) for n, p in zip(padded.shape[1:], patch, strict=True)]
    windows = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    weight, total = _weight(patch), None
    for number, (z, y, x) in enumerate(windows):
        progress("drawing", number / len(windows))
        place = (slice(None), slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2]))
        answer = answer_of(session, padded[place], bundle)
        if total is None:
            total = np.zeros((len(answer), *padded.shape[1:]), dtype=np.float32)
        total[place] += _softmax(answer) * weight
    assert total is not None
    total /= np.maximum(total.sum(axis=0), 1e-12)
    return total[:, : size[0], : size[1], : size[2]]


def by_name(bundle: Bundle, shares: Scores) -> tuple[Scores, dict[int, str]]:
    """Return shares and names with channels of one region added up; the background keeps value 0."""
    names = list(dict.fromkeys(bundle.classes.values()))
    if len(names) == len(shares) - 1:
        return shares, {value: bundle.classes[value] for value in range(1, len(shares))}
    joined = np.zeros((len(names) + 1, *shares.shape[1:]), dtype=np.float32)
    for channel, share in enumerate(shares):
        joined[names.index(bundle.classes[channel]) + 1 if channel in bundle.classes else 0] += share
    return joined, dict(enumerate(names, start=1))


def disagreement(found: NDArray[np.uint8], again: NDArray[np.uint8], names: Mapping[int, str]) -> dict[str, float]:
    """Return 1 - Dice of two drawings by region name, for the regions that either has."""
    doubt = {}
    for value, name in names.items():
        one, other = found == value, again == value
        if total := int(one.sum() + other.sum()):
            doubt[name] = 1 - 2 * int((one & other).sum()) / total
    return doubt


def cleaned(found: NDArray[np.uint8], names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Return the labels without an organ's crumbs: parts smaller than a tenth of its largest one become body."""
    body, result = _body(names), found.copy()
    for value, name in names.items():
        if name in ("body", "spine", "red_marrow"):  # many parts by nature
            continue
        parts, count = ndimage.label(found == value)
        if count > 1:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            small = sizes < LEAST_PART * sizes.max()
            small[0] = False
            result[small[parts]] = body
    return result


def require_ct(ct: Image) -> None:
    """Refuse what is no CT of a patient: too thin, empty, or in other units."""
    ct.require(Quantity.HOUNSFIELD)
    extent_mm = np.array(ct.grid.shape[::-1]) * ct.grid.spacing_mm
    if extent_mm.min() < LEAST_EXTENT_MM:
        shape = " x ".join(str(n) for n in ct.grid.shape[::-1])
        raise _no_ct("CT too thin to draw organs on", f"{shape} voxels, {extent_mm.min():.0f} mm at its thinnest", "send the whole series")
    sample = np.asarray(ct.voxels[:: max(ct.grid.shape[0] // 64, 1), ::4, ::4], dtype=np.float32)
    tissue = float(((sample > -200) & (sample < 250)).mean())
    lightest = float(np.percentile(sample, 0.5))
    if float(sample.max()) - float(sample.min()) < 100 or tissue < 0.01:
        found = f"values from {sample.min():.0f} to {sample.max():.0f}, {tissue:.1%} of them like tissue"
        raise _no_ct("CT shows no patient", found, "check the series")
    if lightest > -150:
        found = f"values from {sample.min():.0f} to {sample.max():.0f}: neither air nor fat"
        raise _no_ct("not a CT in Hounsfield units", found, "give the CT, in HU")


def _no_ct(what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where="CT", found=found, remedy=remedy, code="BAD_CT")


def _disturbed(image: Scores, bundle: Bundle) -> Scores:
    """Return the input as another scan of the same patient might give it: noise, a small offset, half a voxel further on."""
    rng = np.random.default_rng(0)
    before = np.pad(image, [(0, 0), (1, 0), (1, 0), (1, 0)], mode="edge")[:, :-1, :-1, :-1]
    half = 0.5 * (image + before)
    changed = np.empty_like(image)
    for plane, channel in enumerate(bundle.contract.channels):
        noise = rng.normal(DISTURBED_BY_OFFSET, DISTURBED_BY_NOISE, image.shape[1:]).astype(np.float32)
        changed[plane] = half[plane] + noise / np.float32(channel.scale)
    return changed


def _half_a_voxel_back(shares: Scores) -> None:
    """Bring the second drawing's shares back to where the first one's lie, in place: what was moved is not in doubt for that alone."""
    for share in shares:
        share[:-1, :-1, :-1] = 0.5 * (share[:-1, :-1, :-1] + share[1:, 1:, 1:])


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows begin along one axis: evenly spread, at least ``OVERLAP`` of each shared with the next."""
    count = int(np.ceil((length - window) / (window * (1 - OVERLAP)))) + 1
    last = length - window
    return [0] if count <= 1 else [round(n * last / (count - 1) / STEP) * STEP for n in range(count - 1)] + [last]


def _weight(patch: tuple[int, int, int]) -> Scores:
    """Return a Gaussian of an eighth of the window, so that a window's rim counts little."""
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in patch]
    weight = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return np.asarray(np.maximum(weight, 1e-3 * weight.max()), dtype=np.float32)


def _softmax(answer: Scores) -> Scores:
    share = np.exp(answer - answer.max(axis=0))
    return np.asarray(share / share.sum(axis=0), dtype=np.float32)
