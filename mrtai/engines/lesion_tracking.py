"""Lesions keep their names and tracking UIDs from cycle to cycle: those of earlier cycles are registered and found again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mrtai.physics.lesion_identity import Match, matched, renamed
from mrtai.ports import Aligner, Segmenter
from mrtai.values.earlier_lesions import EarlierLesions
from mrtai.values.flag import Flag, Severity
from mrtai.values.labels import Labels
from mrtai.values.regions import is_lesion
from mrtai.values.report import Aligned, Alignment
from mrtai.values.study import TimePoint
from mrtai.values.uid import lesion_uid


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """Draws by ``segmenter``, then says which lesion is which; fills ``ports.Segmenter``.

    Attributes:
        earlier: lesions of the patient's earlier cycles, oldest first.
        aligner: brings their images onto the reference scan.
        rename: lesions take the names that they had; False leaves the names that a person gave and tells identity by UID alone.
    """

    segmenter: Segmenter
    aligner: Aligner
    earlier: tuple[EarlierLesions, ...] = ()
    rename: bool = True

    def __call__(self, aligned: Aligned) -> Labels:
        """Return the contours with a tracking UID for every lesion; see ``ports.Segmenter``."""
        return identified(self.segmenter(aligned), aligned, self.earlier, self.aligner, rename=self.rename)


@dataclass(slots=True)
class _Story:
    """What is known so far of each lesion of now, by its name as drawn."""

    uids: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    flags: dict[str, tuple[Flag, ...]] = field(default_factory=dict)
    split: set[str] = field(default_factory=set)

    def tell(self, region: str, code: str, severity: Severity, text: str, remedy: str) -> None:
        """Add a flag of a region, or under an empty name of the whole case."""
        self.flags[region] = (*self.flags.get(region, ()), Flag(code, severity, text, remedy))


def identified(labels: Labels, aligned: Aligned, earlier: tuple[EarlierLesions, ...], aligner: Aligner, *, rename: bool = True) -> Labels:
    """Return the contours with each lesion's tracking UID, and with flags of what split, merged, came and went.

    The latest earlier cycle is asked first; what it does not know is looked for in the ones before it, so that a lesion which was not
    seen for a cycle is still itself. What no cycle knows gets a number that none had.
    """
    now, story = _only(labels, filter(is_lesion, labels.names.values())), _Story()
    for position, cycle in enumerate(reversed(earlier)):
        _ask(cycle, now, aligned, aligner, story, latest=position == 0)
    lesions = tuple(now.names.values())
    if earlier:
        _tell_new([name for name in lesions if name not in story.uids and name not in story.split], story)
    used = [name for cycle in earlier for name in cycle.labels.names.values()]
    names = renamed(lesions, story.names, used) if rename and earlier else {name: name for name in lesions}
    first = aligned.cycle.time_points[0].series_uid_sha256
    uids = {names[name]: story.uids.get(name) or lesion_uid(aligned.cycle.pseudonym, names[name], first) for name in lesions}
    return replace(
        labels,
        names={value: names.get(name, name) for value, name in labels.names.items()},
        flags=_joined(labels.flags, story.flags, names),
        tracking_uids={**labels.tracking_uids, **uids},
    )


def _ask(cycle: EarlierLesions, now: Labels, aligned: Aligned, aligner: Aligner, story: _Story, *, latest: bool) -> None:
    """Add to the story what one earlier cycle knows of the lesions that no later one knew."""
    then = _only(cycle.labels, (name for name, uid in cycle.labels.tracking_uids.items() if uid not in story.uids.values()))
    wanted = _only(now, (name for name in now.names.values() if name not in story.uids))
    if not then.names or not (wanted.names or latest):
        return
    alignment = _registered(aligned.cycle.time_points[aligned.reference], cycle, aligner)
    doubts = [flag.text for flag in alignment.flags if flag.severity is not Severity.INFO]
    if doubts:
        text = f"Cycle {cycle.cycle} may not lie on this one, so that its lesions may be taken for others: {' '.join(doubts)}"
        story.tell("", "EARLIER_CYCLE_REGISTRATION_DOUBTFUL", Severity.REVIEW, text, "Compare the lesions of both cycles by eye.")
    grid = then.grid.moved(alignment.transform) if alignment.moved else then.grid
    match = matched(wanted, replace(then, grid=grid))
    for name, before in match.same.items():
        story.uids[name], story.names[name] = then.tracking_uids[before], before
    if latest:
        _tell_changes(match, cycle.cycle, story)


def _registered(home: TimePoint, cycle: EarlierLesions, aligner: Aligner) -> Alignment:
    if home.ct is not None and cycle.ct is not None:
        return aligner(home.ct, cycle.ct)
    if cycle.spect is None:
        raise ValueError("earlier lesions: without a CT now, their SPECT is needed")
    return aligner(home.spect, cycle.spect)


def _tell_changes(match: Match, cycle: int, story: _Story) -> None:
    """Add flags of what split, merged and vanished since the latest cycle."""
    story.split.update(match.split_from)
    for name, before in match.split_from.items():
        text = f"It is a part of what was {before} in cycle {cycle}; the larger part keeps that name."
        story.tell(name, "LESION_SPLIT", Severity.REVIEW, text, "Add the parts' doses up where the whole lesion matters.")
    for name, others in match.merged.items():
        text = f"In cycle {cycle} {', '.join(others)} lay where it is now: lesions grew together, or are drawn as one."
        story.tell(name, "LESION_MERGED", Severity.REVIEW, text, "Part the contour, or mind that its sum over cycles misses the others'.")
    if match.vanished:
        text = f"Lesions of cycle {cycle} that have no contour now: {', '.join(match.vanished)}."
        remedy = "None needed where they responded, lie out of view, or lesions are not drawn."
        story.tell("", "LESIONS_VANISHED", Severity.INFO, text, remedy)


def _tell_new(names: list[str], story: _Story) -> None:
    for name in names:
        story.tell(name, "LESION_NEW", Severity.INFO, "No earlier cycle had this lesion.", "None needed; look at it as at any new finding.")


def _only(labels: Labels, wanted: Iterable[str]) -> Labels:
    """Return the regions of these names that have a voxel, and nothing else."""
    chosen, present = set(wanted), set(np.unique(labels.voxels).tolist())
    names = {value: name for value, name in labels.names.items() if name in chosen and value in present}
    voxels = np.where(np.isin(labels.voxels, list(names)), labels.voxels, 0)
    uids = {name: uid for name, uid in labels.tracking_uids.items() if name in names.values()}
    return Labels(voxels, names, labels.grid, tracking_uids=uids)


def _joined(
    drawn: Mapping[str, tuple[Flag, ...]], told: Mapping[str, tuple[Flag, ...]], names: Mapping[str, str]
) -> dict[str, tuple[Flag, ...]]:
    """Return the flags of drawing and of identity under the lesions' final names."""
    found: dict[str, tuple[Flag, ...]] = {}
    for name, flags in (*drawn.items(), *told.items()):
        final = names.get(name, name)
        found[final] = (*found.get(final, ()), *flags)
    return found
