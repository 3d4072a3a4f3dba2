"""Which component stands in a place: `{label: a, http_client: {...}}` or `{type: http_client, ...}`."""

from __future__ import annotations

from typing import Final

from openmeter_collector.config.report import Report, article
from openmeter_collector.config.tree import Mapping, Scalar, Tree
from openmeter_collector.spec.registry import Registry

RESERVED: Final = ("type", "plugin", "label", "meta")
WITH_PROCESSORS: Final = ("input", "output")

Placed = tuple[str, Tree | None]
"""The component's name and the tree of its config, None when nothing was written."""


def is_reserved(kind: str, key: str) -> bool:
    """Whether a key beside the component's name belongs to the place, not to a component."""
    if key == "processors":
        return kind in WITH_PROCESSORS
    return key in RESERVED or (key == "mapping" and kind == "metrics")


def place(registry: Registry, report: Report, kind: str, tree: Mapping, path: str) -> Placed | None:
    """Find the component; None when there is none, or several, which is then reported."""
    named = tree.entries.get("type")
    if named is not None and isinstance(named.value, Scalar):
        return _by_type(registry, report, kind, tree, path)
    keys = [key for key in tree.entries if not is_reserved(kind, key)]
    known = [key for key in keys if registry.has(kind, key)]
    if len(known) == 1:
        _check_siblings(report, kind, tree, known[0], path)
        return known[0], tree.get(known[0])
    if known:
        _several(report, kind, tree, known, path)
    elif keys:
        name = keys[0]
        report(
            tree.entries[name].place,
            "unknown_component",
            f"unable to infer component type: {name}",
            path,
            found=f"there is no {kind} {name!r}",
            hint=_which(registry, kind, name),
            lint_at=(tree.place.line, 1),
        )
    else:
        report(
            tree.place,
            "no_component",
            f"an explicit {kind} type must be specified",
            path,
            found=f"{article(kind)} is missing",
            hint=f"write one of: {', '.join(registry.names(kind)[:8])}, ...",
        )
    return None


def _by_type(
    registry: Registry, report: Report, kind: str, tree: Mapping, path: str
) -> Placed | None:
    named = tree.entries["type"].value
    assert isinstance(named, Scalar)
    name = named.text
    if not registry.has(kind, name):
        report(
            named.place,
            "unknown_component",
            f"{kind} type '{name}' was not recognised",
            path,
            found=f"there is no {kind} {name!r}",
            hint=_which(registry, kind, name),
        )
        return None
    _check_siblings(report, kind, tree, name, path)
    if name in tree.entries or (plugin := tree.get("plugin")) is None:
        return name, tree.get(name)
    if not isinstance(plugin, Mapping):
        report.wrong(plugin, "object", f"{path}.plugin")
        return None
    return name, plugin


def _several(report: Report, kind: str, tree: Mapping, known: list[str], path: str) -> None:
    first, second = sorted(known)[:2]
    report(
        tree.entries[known[1]].place,
        "ambiguous_component",
        f"unable to infer component type, multiple candidates '{first}' and '{second}'",
        path,
        found=f"{' and '.join(map(repr, known))} stand in the place of one {kind}",
        hint="keep one of them",
        lint_at=(tree.place.line, 1),
    )


def _check_siblings(report: Report, kind: str, tree: Mapping, name: str, path: str) -> None:
    for key, entry in tree.entries.items():
        if key != name and not is_reserved(kind, key):
            report(
                entry.place,
                "unknown_field",
                f"field {key} is invalid when the component type is {name} ({kind})",
                path,
                found=f"{key!r} stands beside {name!r}",
                hint=f"move it below {name!r} if it is a field of it, else remove it",
            )


def _which(registry: Registry, kind: str, name: str) -> str:
    if kinds := registry.kinds_of(name):
        return f"{name!r} is {article(kinds[0])}"
    if meant := registry.suggest(kind, name):
        return f"did you mean {meant!r}?"
    return f"`list {kind}s` shows all there are"
