"""Selectors as the Kubernetes API understands them: for its fake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_SET: Final = re.compile(r"^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_SPLIT: Final = re.compile(r",(?![^(]*\))")


def matches_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """`a=b,c!=d,e in (f,g),h,!i`; the empty selector is everything."""
    return all(_label(part.strip(), labels) for part in _SPLIT.split(selector) if part.strip())


def matches_fields(selector: str, made: Mapping[str, Any]) -> bool:
    """`status.phase!=Failed,metadata.name=x`."""
    for part in selector.split(","):
        if "!=" in part:
            path, _, wanted = part.partition("!=")
            if _field(path, made) == wanted:
                return False
        elif part:
            path, _, wanted = part.partition("=")
            if _field(path, made) != wanted.removeprefix("="):
                return False
    return True


def _label(part: str, labels: Mapping[str, str]) -> bool:
    found = _SET.match(part)
    if found:
        values = {one.strip() for one in found[3].split(",")}
        inside = labels.get(found[1]) in values
        return inside if found[2] == "in" else not inside
    if "!=" in part:
        name, _, value = part.partition("!=")
        return labels.get(name.strip()) != value.strip()
    if "=" in part:
        name, _, value = part.partition("=")
        return labels.get(name.strip()) == value.removeprefix("=").strip()
    if part.startswith("!"):
        return part[1:] not in labels
    return part in labels


def _field(path: str, made: Mapping[str, Any]) -> str:
    value: Any = made
    for name in path.strip().split("."):
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    return str(value)
