"""Sends each message to the processors of the first case that fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    ConfigError,
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
from openmeter_collector.components.processors.common import (
    Flag,
    flat,
    in_order_of,
    processor_of,
)

BY_TYPE = Example(
    "Unpack batches, let single events pass, refuse the rest",
    """
    pipeline:
      processors:
        - switch:
            - check: meta("Content-Type") == "application/cloudevents-batch+json"
              processors:
                - unarchive:
                    format: json_array
            - check: meta("Content-Type") == "application/cloudevents+json"
              processors:
                - noop: {}
            - processors:
                - log:
                    level: ERROR
                    message: 'unexpected content type: ${! meta("Content-Type") }'
                - mapping: root = deleted()
    """,
)


@section
class Case:
    """What is done with messages that fit a check."""

    check: MappingText | None = field(
        default=None,
        doc="A query that gives true for messages of this case; empty is all that come so far.",
        examples=['this.type == "request"', "errored()"],
    )
    processors: list[ProcessorNode] = field(
        default_factory=list, minimum=1, doc="What to do with them."
    )
    fallthrough: bool = field(
        default=False, doc="Run the next case's processors as well, whatever its check says."
    )
    continue_: bool = field(
        default=False, doc="Let what comes out be checked by the cases that follow."
    )


@processor("switch", categories=("Composition",), examples=[BY_TYPE], value="cases")
class Switch:
    """Tries its cases in order for each message, and runs the processors of the first that fits.

    Messages of one case run as one batch; afterwards all are one batch again, in their old order. A
    message that fits no case passes unchanged. One on which a check fails (a method on null, a
    result that is no bool) is flagged and passes; no further case is tried for it.
    """

    cases: list[Case] = field(default_factory=list, doc="The cases.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with AsyncExitStack() as stack:
            cases = []
            for case in self.cases:
                if case.fallthrough and case.continue_:
                    raise ConfigError(
                        f"{env.node.where} switch: a case has both fallthrough and continue; "
                        "leave one of them out"
                    )
                chain = await stack.enter_async_context(env.processors(case.processors))
                cases.append((case, chain))
            waits = not all(chain.sync for _, chain in cases)
            yield processor_of(_Switcher(cases, Flag(env)).run, waits=waits)


class _Switcher:
    def __init__(self, cases: list[tuple[Case, Chain]], flag: Flag) -> None:
        self._cases = cases
        self._flag = flag

    async def run(self, batch: Batch) -> list[Batch]:
        left = batch
        done: Batch = []
        carried: Batch = []
        for case, chain in self._cases:
            chosen, left, failed = self._choose(case, left)
            done += failed
            chosen = in_order_of(batch, [*carried, *chosen])
            carried = []
            if not chosen:
                continue
            results = flat(await chain.run(chosen))
            if case.fallthrough:
                carried = results
            elif case.continue_:
                left = in_order_of(batch, [*left, *results])
            else:
                done += results
        if done or carried:
            left = in_order_of(batch, [*done, *carried, *left])
        return [left] if left else []

    def _choose(self, case: Case, batch: Batch) -> tuple[Batch, Batch, Batch]:
        """Those that fit, those that do not, and those on which the check failed."""
        if case.check is None:
            return batch, [], []
        check = case.check.program.check
        chosen: Batch = []
        left: Batch = []
        failed: Batch = []
        for index, message in enumerate(batch):
            try:
                (chosen if check(batch, index) else left).append(message)
            except MappingFailed as error:
                failed.append(self._flag(message, f"failed to test case: {error}"))
        return chosen, left, failed
