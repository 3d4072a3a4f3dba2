"""Makes batches of messages that fit together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    Env,
    Example,
    MappingText,
    Processor,
    ProcessorNode,
    field,
    processor,
    section,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag, processor_of

APART = Example(
    "Pack the requests and leave the rest alone",
    """
    pipeline:
      processors:
        - group_by:
            - check: this.type == "request"
              processors:
                - archive:
                    format: lines
    """,
)


@section
class Group:
    """Messages that fit a check."""

    check: MappingText = field(
        doc="A query that gives true for messages of the group.",
        examples=['this.type == "request"'],
    )
    processors: list[ProcessorNode] = field(
        default_factory=list, doc="Run over the group as a batch."
    )


@processor("group_by", categories=("Composition",), examples=[APART], value="groups")
class GroupBy:
    """Divides a batch: each message joins the first group whose check gives true.

    Every group is a batch of its own from here, and so is what fits none. A message on which a check
    fails is flagged and joins none.
    """

    groups: list[Group] = field(
        default_factory=list, doc="The groups, in the order they are tried."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with AsyncExitStack() as stack:
            groups = [
                (group, await stack.enter_async_context(env.processors(group.processors)))
                for group in self.groups
            ]
            waits = not all(chain.sync for _, chain in groups)
            yield processor_of(_Grouping(groups, Flag(env)).run, waits=waits)


class _Grouping:
    def __init__(self, groups: list[tuple[Group, Chain]], flag: Flag) -> None:
        self._groups = groups
        self._flag = flag

    async def run(self, batch: Batch) -> list[Batch]:
        members: list[Batch] = [[] for _ in self._groups]
        rest: Batch = []
        for index, message in enumerate(batch):
            try:
                group = self._group_of(batch, index)
            except MappingFailed as error:
                rest.append(self._flag(message, f"failed to test group: {error}"))
            else:
                (rest if group is None else members[group]).append(message)
        made: list[Batch] = []
        for (_, chain), own in zip(self._groups, members, strict=True):
            if own:
                made += await chain.run(own)
        return [*made, rest] if rest else made

    def _group_of(self, batch: Batch, index: int) -> int | None:
        for number, (group, _) in enumerate(self._groups):
            if group.check.program.check(batch, index):
                return number
        return None
