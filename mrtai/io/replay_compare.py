"""Where two results of one cycle differ first, and what is not the same in how they came about."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mrtai.io.report_tables import significant

Json = Mapping[str, Any]

ABSENT: Final = object()
PROVENANCE: Final = ("engines", "models", "libraries")
LONGEST: Final = 60


def without_state(results: Json) -> dict[str, Any]:
    """Return results without what a signature changes."""
    return {key: value for key, value in results.items() if key != "state"}


def differences(then: Any, now: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every place where two documents differ with what stood there then and stands there now, in the order of the first.

    Regions are named: ``region kidney_left, tia_mbq_h``.
    """
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in (*then, *(key for key in now if key not in then)):
            yield from differences(then.get(key, ABSENT), now.get(key, ABSENT), _below(place, key))
    elif isinstance(then, list) and isinstance(now, list):
        for n in range(max(len(then), len(now))):
            one, other = (side[n] if n < len(side) else ABSENT for side in (then, now))
            yield from differences(one, other, _item(place, n, one, other))
    elif then != now or type(then) is not type(now):
        yield place, then, now


def by_how_much(then: Any, now: Any) -> str:
    """Return ``4.72 then, 4.75 now (+0.64 %)`` in words."""
    words = f"{_shown(then)} then, {_shown(now)} now"
    if isinstance(then, float | int) and isinstance(now, float | int) and then and not isinstance(then, bool):
        words += f" ({100 * (now / then - 1):+.2g} %)"
    return words


def changed_versions(then: Json, now: Json) -> list[str]:
    """Return what differs between two manifests in code, libraries, engines and models."""
    found = [f"mrtai {_version(then['code'])} to {_version(now['code'])}"] if then["code"] != now["code"] else []
    for table in PROVENANCE:
        before, after = then.get(table, {}), now.get(table, {})
        names = dict.fromkeys((*before, *after))
        found += [f"{n} {before.get(n, 'none')} to {after.get(n, 'none')}" for n in names if before.get(n) != after.get(n)]
    return found


def _version(code: Json) -> str:
    return f"{code['version']} ({str(code['commit'])[:12]})"


def _below(place: str, key: str) -> str:
    if not place:
        return key
    return f"{place}, {key}" if " " in place and "," not in place else f"{place}.{key}"


def _item(place: str, n: int, one: Any, other: Any) -> str:
    named = one if isinstance(one, Mapping) else other
    if place == "regions" and isinstance(named, Mapping):
        return f"region {named.get('name')}"
    return f"scan {n + 1}" if place == "scans" else f"{place}[{n}]"


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    if isinstance(value, float):
        return significant(value, 7)
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
