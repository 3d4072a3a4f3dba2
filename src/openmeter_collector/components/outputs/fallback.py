"""Tries outputs one after the other until one takes the messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Final,
    Output,
    OutputNode,
    as_failure,
    field,
    output,
)
from openmeter_collector.components.outputs.repeating import verdicts_of

TO_FILE = Example(
    "Keep what cannot be delivered in a file",
    """
    output:
      fallback:
        - http_client:
            url: https://example.com/events
        - file:
            path: /var/lib/collector/undelivered.jsonl
            codec: lines
    """,
)


@output("fallback", categories=("Utility",), examples=[TO_FILE], value="outputs")
class Fallback:
    """Writes to the first output; what fails there goes to the second, and so on.

    Only messages that failed are handed on; their metadata `fallback_error` says why. A message
    that all outputs failed on is reported as failed, with what the last one said.
    """

    outputs: list[OutputNode] = field(doc="The outputs, in the order they are tried.", minimum=1)

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens all children."""
        async with AsyncExitStack() as stack:
            yield _Fallback(
                [await stack.enter_async_context(env.output(node)) for node in self.outputs]
            )


class _Fallback:
    def __init__(self, children: list[Output]) -> None:
        self._children = children

    async def write(self, batch: Batch) -> None:
        indexes = list(range(len(batch)))
        left = batch
        failed: dict[int, Exception] = {}
        final: dict[int, Exception] = {}
        for child in self._children:
            verdicts = await verdicts_of(child.write, left)
            final |= {indexes[at]: one for at, one in verdicts.items() if isinstance(one, Final)}
            failed = {at: one for at, one in verdicts.items() if not isinstance(one, Final)}
            if not failed:
                break
            # From here on `at` counts in `left`, `indexes` in the batch that was handed to us.
            left = [
                left[at].with_metadata({**left[at].metadata, "fallback_error": str(error)})
                for at, error in failed.items()
            ]
            indexes = [indexes[at] for at in failed]
        verdicts = final | (dict(zip(indexes, failed.values(), strict=True)) if failed else {})
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure
