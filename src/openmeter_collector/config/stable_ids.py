"""Ids of events that would be others if their source were read again."""

from __future__ import annotations

from collections.abc import Iterator

from openmeter_collector.component.node import Node
from openmeter_collector.config.lint import Problem
from openmeter_collector.config.walk import values_below
from openmeter_collector.spec.fields import MappingText


def random_ids(config: object) -> Iterator[Problem]:
    """A warning for each mapping that gives events random ids, behind an input that fetches.

    What is sent to us comes once; what we fetch may be fetched again: after a crash, by another
    replica, in a catch-up. Then only the same id keeps it from counting twice.
    """
    pulls = any(
        node.kind == "input" and getattr(type(node.config), "leader_only", False)
        for node in values_below(config, Node)
    )
    if not pulls:
        return
    for mapping in values_below(config, MappingText):
        names = mapping.program.reads.unstable.behind("id")
        if names:
            file, line, column = _place(mapping.where)
            yield Problem(
                file,
                line,
                column,
                "random_id",
                f"the id of events comes from {', '.join(sorted(names))}: what is fetched again counts twice",
                hint='use what the event stands for, such as event_id(this.uid, meta("window_end"))',
                severity="warning",
            )


def _place(where: str) -> tuple[str, int, int]:
    file, _, column = where.rpartition(":")
    file, _, line = file.rpartition(":")
    return file, int(line or 1), int(column or 1)
