"""Values of a MONAI configuration that can be told without running its code.

References (``@preprocessing``, ``@settings#spacing``) are followed. Of expressions (``$…``) only what Python itself would take for a
literal is read, and a choice between two literals by a reference: ``$[1.5, 1.5, 1.5] if @settings#fine else [3.0, 3.0, 3.0]``.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any, Final

DEEPEST: Final = 20
LONGEST: Final = 2000
_REFERENCE: Final = re.compile(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)")
_STEP: Final = re.compile(r"#|::")


class NeedsCode(ValueError):
    """The value is only known after running the configuration's code."""


def told(value: Any, config: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value with its references and literal expressions resolved, lists and mappings with theirs.

    Raises:
        NeedsCode: it cannot be told without running code, or refers in circles.
        KeyError: it refers to what the configuration does not have.
    """
    if depth > DEEPEST:
        raise NeedsCode("refers in circles")
    if isinstance(value, list):
        return [told(one, config, depth + 1) for one in value]
    if isinstance(value, dict):
        return {key: told(one, config, depth + 1) for key, one in value.items()}
    if not isinstance(value, str) or value[:1] not in ("@", "$", "%"):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return told(_found(config, whole[1]), config, depth + 1)
    if value.startswith("$"):
        return _expression(value[1:], config, depth)
    raise NeedsCode(f"{value[:40]!r}")


def _found(config: Mapping[str, Any], reference: str) -> Any:
    place: Any = config
    for step in _STEP.split(reference):
        try:
            place = place[int(step)] if isinstance(place, list) else place[step]
        except (LookupError, TypeError, ValueError) as cause:
            raise KeyError(reference) from cause
    return place


def _expression(text: str, config: Mapping[str, Any], depth: int) -> Any:
    references: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        name = f"reference_{len(references)}"
        references[name] = match[0]
        return name

    if len(text) > LONGEST:
        raise NeedsCode(f"{text[:40]!r}…")
    try:
        tree = ast.parse(_REFERENCE.sub(placeholder, text).strip(), mode="eval")
        return _literal(tree.body, references, config, depth)
    except (SyntaxError, MemoryError, RecursionError) as cause:
        raise NeedsCode(f"{text[:40]!r}") from cause


def _literal(node: ast.expr, references: Mapping[str, str], config: Mapping[str, Any], depth: int) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name) if name in references:
            return told(references[name], config, depth + 1)
        case ast.List(parts) | ast.Tuple(parts):
            return [_literal(part, references, config, depth) for part in parts]
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
            return -number
        case ast.IfExp(test, yes, no):
            chosen = yes if _literal(test, references, config, depth) else no
            return _literal(chosen, references, config, depth)
        case _:
            raise NeedsCode(f"{ast.unparse(node)[:40]!r}")
