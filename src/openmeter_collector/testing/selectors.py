"""Selectors as the Kubernetes API understands them: for its fake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_SET: Final = re.compile(r"^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_SPLIT: Final = re.compile(r",(?![^(]*\))")
_NAME: Final = re.compile(r"^!?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$")
_FIELDS: Final = {
    "pods": frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    "nodes": frozenset({"spec.unschedulable"}),
}
_OF_ALL: Final = frozenset({"metadata.name", "metadata.namespace"})


def wrong_selector(labels: str, fields: str, resource: str) -> str:
    """Why the API answers 400 to selectors, in its words; empty if it does not."""
    for part in filter(str.strip, _SPLIT.split(labels)):
        if not (_SET.match(part) or _NAME.match(re.split("!?==?", part)[0].strip())):
            return f"unable to parse requirement: {part.strip()!r}"
    for part in filter(None, fields.split(",")):
        name, sign, _ = re.split("(!?==?)", part, maxsplit=1) if "=" in part else (part, "", "")
        if not sign:
            return f"invalid selector: '{fields}'; can't understand '{part}'"
        if name not in _FIELDS.get(resource, frozenset()) | _OF_ALL:
            return f"field label not supported: {name}"
    return ""


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
