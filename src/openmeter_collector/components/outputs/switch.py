"""Sends each message to the outputs whose condition it meets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    Batch,
    CollectorError,
    Dropped,
    Env,
    Example,
    MappingText,
    Output,
    OutputNode,
    Rejected,
    as_failure,
    field,
    output,
    section,
)
from openmeter_collector.components.outputs.repeating import (
    told_by_several,
    verdicts_of,
    write_repeating,
)

DEBUG = Example(
    "Deliver everything, print a copy when asked to",
    """
    output:
      switch:
        cases:
          - check: ""
            continue: true
            output:
              openmeter:
                url: ${OPENMETER_URL:https://openmeter.cloud}
                token: ${OPENMETER_TOKEN:}
          - check: '"${DEBUG:false}" == "true"'
            output:
              stdout: {}
    """,
)


@section
class Case:
    """One branch."""

    check: MappingText | None = field(
        default=None,
        doc="A query that says whether a message goes here. Empty is always. A query that fails "
        "counts as false.",
        examples=['this.type == "request"', 'meta("kind") == "debug"'],
    )
    output: OutputNode = field(doc="Where matching messages go.")
    continue_: bool = field(
        default=False,
        doc="Ask the cases below as well after this one matched.",
    )


@output("switch", categories=("Utility",), examples=[DEBUG])
class Switch:
    """Routes messages to outputs by conditions; the first case that matches takes the message.

    The messages of a batch are put together again for each case, and the cases are written to at the
    same time. Only messages that could not be delivered are reported as failed. A message that goes
    to several cases (`continue`) counts as delivered when all have it; when one of them fails, it is
    sent again to all, so a destination may see it twice (with the same id).

    A message that no case matches is dropped, which `switch_dropped` counts, unless `strict_mode`
    is set.
    """

    retry_until_success: bool = field(
        default=False,
        doc="Repeat a case's output until it takes the messages, so that no other case sees them "
        "again. What is refused for good is not repeated.",
    )
    strict_mode: bool = field(
        default=False,
        doc="Refuse messages that no case matches: they become dead letters, or the sender is told.",
    )
    cases: list[Case] = field(doc="The branches, asked from the first to the last.", minimum=1)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens all children."""
        async with AsyncExitStack() as stack:
            children = [
                await stack.enter_async_context(env.output(case.output)) for case in self.cases
            ]
            yield _Router(self, env, children)


class _Router:
    def __init__(self, config: Switch, env: Env, children: list[Output]) -> None:
        self._env = env
        self._cases = list(zip(config.cases, children, strict=True))
        self._repeat = config.retry_until_success
        self._strict = config.strict_mode
        self._dropped = env.metrics.counter("switch_dropped", "Messages that no case matched.")

    async def write(self, batch: Batch) -> None:
        verdicts: dict[int, Exception] = {}
        routed = self._route(batch, verdicts)
        writes = [
            self._write(child, batch, indexes)
            for (_, child), indexes in zip(self._cases, routed, strict=True)
            if indexes
        ]
        outcomes = [await writes[0]] if len(writes) == 1 else await asyncio.gather(*writes)
        asked = Counter(index for indexes in routed for index in indexes)
        verdicts |= told_by_several(outcomes, asked)
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

    def _route(self, batch: Batch, verdicts: dict[int, Exception]) -> list[list[int]]:
        routed: list[list[int]] = [[] for _ in self._cases]
        unmatched = Dropped(f"{self._env.node.display()} (switch: no case matched)")
        for index in range(len(batch)):
            matched = False
            for (case, _), indexes in zip(self._cases, routed, strict=True):
                if case.check is None or self._holds(case.check, batch, index):
                    matched = True
                    indexes.append(index)
                    if not case.continue_:
                        break
            if not matched and self._strict:
                verdicts[index] = Rejected("no switch output conditions were met by message")
            elif not matched:
                verdicts[index] = unmatched
                self._dropped.add()
        return routed

    def _holds(self, check: MappingText, batch: Batch, index: int) -> bool:
        try:
            return check.program.check(batch, index)
        except CollectorError as error:
            self._env.log.warning("failed to test a case", error=str(error))
            return False

    async def _write(self, child: Output, batch: Batch, indexes: list[int]) -> dict[int, Exception]:
        messages = batch if len(indexes) == len(batch) else [batch[index] for index in indexes]
        if self._repeat:
            failed = await write_repeating(self._env, child, messages)
        else:
            failed = await verdicts_of(child.write, messages)
        return {indexes[at]: error for at, error in failed.items()}
