"""What decoding asks about places, texts and fields without reading any further."""

from __future__ import annotations

from collections.abc import Mapping

from openmeter_collector.config.tree import Scalar, Tree
from openmeter_collector.config.tree import parse as parse_tree
from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import FieldSpec
from openmeter_collector.spec.registry import closest


def assumed(text: str) -> Tree:
    """The tree of a component that stands where a config has none."""
    made = parse_tree(text, "")
    assert made is not None
    return made


def is_resource(path: str) -> bool:
    """Whether a path is that of a resource itself: `root.cache_resources.0`."""
    parts = path.split(".")
    return len(parts) == 3 and parts[1].endswith("_resources")


def is_nothing(tree: Tree, inner: t.FieldType) -> bool:
    """Whether nothing is written where something may be left out."""
    if not isinstance(tree, Scalar):
        return False
    return tree.is_null or (not tree.text and inner != t.Scalar("string"))


def which_field(key: str, fields: Mapping[str, FieldSpec]) -> str:
    """What may have been meant by a field that is not there."""
    if meant := closest(key, fields):
        return f"did you mean {meant!r}?"
    names = list(fields)
    if not names:
        return "it has none"
    return f"it has: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
