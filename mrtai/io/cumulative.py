"""``cumulative.json``: the sums over a patient's cycles, and the same block in the results of a new cycle."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mrtai.io.counted_cycles import counted_cycle
from mrtai.io.results import Json, flag_list, require_valid, rounded, scaled
from mrtai.physics.cumulative import cumulated
from mrtai.physics.cumulative_flags import EXCEEDED, NEXT
from mrtai.physics.verdict import verdict
from mrtai.units import BQ_PER_MBQ
from mrtai.values.cumulative import QUANTITIES, CountedCycle, Cumulative, CycleRegion, RegionSum, Uncertain
from mrtai.values.flag import Flag, Severity
from mrtai.values.protocol import Protocol

SCHEMA: Final = "mrtai.cumulative/1"
SCHEMA_FILE: Final = "cumulative.schema.json"


def cumulative_document(found: Cumulative) -> Json:
    """Return the content of ``cumulative.json``; a sum that could not be made is None and a flag says why."""
    document = {
        "schema": SCHEMA,
        "provisional": found.provisional,
        "patient": {"pseudonym": found.cycles[0].pseudonym},
        "protocol": found.protocol,
        "cycles": [_cycle(cycle) for cycle in found.cycles],
        "regions": [_region(row) for row in found.regions],
        "flags": flag_list(found.flags),
    }
    return require_valid(document, SCHEMA_FILE)


def with_earlier(document: Json, earlier: Iterable[CountedCycle], protocol: Protocol) -> Json:
    """Return a draft's results with the sums over it and the signed ``earlier`` cycles; as they are where there is none of those.

    Limits that the sums reach, and earlier cycles that do not count, are told among the flags of the case.
    """
    known = tuple(earlier)
    signed = [cycle for cycle in known if cycle.is_counted]
    if not signed:
        return document
    found = cumulated([*signed, counted_cycle(document)], protocol.cumulative_limits, protocol.name)
    left_out = _left_out([cycle.label for cycle in known if not cycle.is_counted])
    sums = cumulative_document(replace(found, flags=(*found.flags, *left_out)))
    raised = [*flag_list(left_out), *_reached(sums)]
    gravest = "review" if raised and document["verdict"] == "ok" else document["verdict"]
    return document | {"cumulative": sums, "flags": [*document["flags"], *raised], "verdict": gravest}


def _left_out(labels: Sequence[str]) -> tuple[Flag, ...]:
    text = f"The sums over all cycles leave out what nobody has signed: {', '.join(labels)}."
    return (
        (Flag("EARLIER_NOT_COUNTED", Severity.REVIEW, text, "Have the earlier cycle signed, then run this one again."),) if labels else ()
    )


def _reached(sums: Json) -> list[Json]:
    return [
        {**flag, "text": f"{row['name'].replace('_', ' ')}, all cycles: {flag['text']}"}
        for row in sums["regions"]
        for flag in row["flags"]
        if flag["code"] in (EXCEEDED, NEXT)
    ]


def no_limits_flag() -> Flag:
    """Return the flag of sums that no limit was found for."""
    text = "The cases do not share one shipped protocol, so no limits are shown."
    return Flag("NO_LIMITS", Severity.REVIEW, text, "Name the protocol whose limits hold with --protocol.")


def _cycle(cycle: CountedCycle) -> Json:
    return {
        "cycle": cycle.number,
        "label": cycle.label,
        "state": cycle.state,
        "provisional": cycle.provisional,
        "nuclide": cycle.nuclide,
        "agent": cycle.agent,
        "activity_mbq": scaled(cycle.administered_bq, BQ_PER_MBQ),
        "time": cycle.at.isoformat(),
    }


def _region(row: RegionSum) -> Json:
    return {
        "name": row.name,
        "kind": row.kind,
        "tracking_uid": row.tracking_uid,
        "verdict": verdict(row.flags),
        **_values(row.sums),
        "by_nuclide": {nuclide: _values(sums) for nuclide, sums in row.by_nuclide.items()},
        "cycles": [_part(position, region) for position, region in row.parts],
        "limits": [
            {
                "quantity": limit.quantity,
                "limit_gy": limit.limit_gy,
                "source": limit.source,
                "remaining_gy": rounded(limit.remaining_gy),
                "remaining_sd_gy": rounded(limit.remaining_sd_gy),
                "exceeded": limit.exceeded,
                "next_mean_cycle_exceeds": limit.next_exceeds,
            }
            for limit in row.limits
        ],
        "flags": flag_list(row.flags),
    }


def _part(position: int, region: CycleRegion) -> Json:
    return {"position": position + 1, "name": region.name, **_values(region.values)}


def _values(values: Mapping[str, Uncertain]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for quantity in QUANTITIES:
        value = values.get(quantity)
        found[f"{quantity}_gy"] = rounded(value.value_gy) if value else None
        found[f"{quantity}_sd_gy"] = rounded(value.sd_gy) if value else None
        found[f"{quantity}_common_sd_gy"] = rounded(value.common_sd_gy) if value and value.sd_gy is not None else None
    return found
