"""The mappings of a config, for the playground: each with its place, and without what is secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from openmeter_collector.component.node import Node
from openmeter_collector.config.lint import Scrubber
from openmeter_collector.config.unit_tests import SUFFIX
from openmeter_collector.config.walk import values_below
from openmeter_collector.spec.fields import MappingText

MOST_MAPPINGS: Final = 500
_TESTABLE: Final = frozenset({"mapping", "bloblang", "mutation"})
"""Processors that do what their mapping says and nothing else."""


def mappings_of(
    nodes: Iterable[Node], secrets: Iterable[str], stream: str = ""
) -> list[dict[str, Any]]:
    """What may be shown of the mappings in components, in the order of the config.

    Returns:
        For each: `place` (`file:line`, or the path in a config without a file), `name` (label or path, with
        the field), `text`, `mode`, `hidden` (a secret was taken out: it runs otherwise than in the
        config), and for a processor that a unit test can be about `processors` and `test_file`.
    """
    scrubber = Scrubber(secrets)
    found: list[dict[str, Any]] = []
    # By identity: those attached to an input stand in it, and in the pipeline's stages once more.
    for node in {id(one): one for top in nodes for one in values_below(top, Node)}.values():
        for field, mapping in _of_node(node.config, ""):
            found.append(_shown(node, field, mapping, scrubber) | {"stream": stream})
            if len(found) >= MOST_MAPPINGS:
                return found
    return found


def _of_node(value: object, field: str) -> Iterator[tuple[str, MappingText]]:
    """Mappings of a component, not those of components inside of it."""
    if isinstance(value, MappingText):
        yield field, value
    elif isinstance(value, Node):
        return
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _of_node(one, f"{field}.{index}")
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _of_node(one, f"{field}.{key}")
    elif is_dataclass(value):
        for one in fields(value):
            yield from _of_node(getattr(value, one.name, None), f"{field}.{one.name}".lstrip("."))


def _shown(node: Node, field: str, mapping: MappingText, scrubber: Scrubber) -> dict[str, Any]:
    written = mapping.program.source  # of one in a file, what the file says
    text = scrubber.scrub(written)
    path = node.path.removeprefix("root.")
    file, line = _file_and_line(mapping.where or node.where)
    name = node.label or path
    made = {
        "place": f"{file}:{line}" if file else path,
        "name": name if field in _TESTABLE else f"{name} {field}",
        "text": text,
        "mode": "mutation" if node.name == "mutation" else "mapping",
        "hidden": text != written,
    }
    if node.kind == "processor" and node.name in _TESTABLE and not made["hidden"]:
        made["processors"] = node.label or "/" + path.replace(".", "/")
        made["test_file"] = _beside(file)
    return {
        key: scrubber.scrub(value) if isinstance(value, str) else value
        for key, value in made.items()
    }


def _file_and_line(where: str) -> tuple[str, str]:
    rest, _, _ = where.rpartition(":")
    file, _, line = rest.rpartition(":")
    return file, line


def _beside(file: str) -> str:
    """Where the tests of a config are looked for."""
    path = Path(file or "config.yaml")
    return f"{path.stem}{SUFFIX}{path.suffix}"
