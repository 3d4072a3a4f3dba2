"""Writes to several outputs: to all of them, or to one of them in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    Dropped,
    Env,
    Example,
    Output,
    OutputNode,
    as_failure,
    field,
    output,
)
from openmeter_collector.components.outputs.repeating import (
    told_by_several,
    verdicts_of,
    write_repeating,
)

BOTH = Example(
    "Deliver to two places",
    """
    output:
      broker:
        pattern: fan_out
        outputs:
          - openmeter:
              url: https://openmeter.cloud
              token: ${OPENMETER_TOKEN:}
          - stdout: {}
            processors: []
    """,
)


@output("broker", categories=("Utility",), examples=[BOTH])
class Broker:
    """Hands messages to several outputs, in one of several patterns.

    With `fan_out` every output gets every message, and a message counts as delivered when all have
    it. An output that is in trouble is tried again and again on its own, so that the others do not
    see the message twice; one that is slow slows down all. A message that one of them refuses for
    good is reported as refused (it becomes a dead letter), although the others have it.

    With `round_robin` and `greedy` each batch goes to one output.
    """

    copies: int = field(default=1, minimum=1, doc="How often each output is opened.")
    pattern: Literal[
        "fan_out",
        "fan_out_fail_fast",
        "fan_out_sequential",
        "fan_out_sequential_fail_fast",
        "round_robin",
        "greedy",
    ] = field(
        default="fan_out",
        choices={
            "fan_out": "All at the same time; each is repeated until it has the message.",
            "fan_out_fail_fast": "All at the same time; a failure of one is reported, and all may "
            "see the message again.",
            "fan_out_sequential": "One after the other; each is repeated until it has the message.",
            "fan_out_sequential_fail_fast": "One after the other; a failure is reported and the "
            "rest is not written to.",
            "round_robin": "Each batch to one output, in turn.",
            "greedy": "Each batch to the output with the least to do.",
        },
        doc="Who gets what.",
    )
    outputs: list[OutputNode] = field(doc="The outputs.", minimum=1)
    batching: BatchPolicy = field(
        default_factory=BatchPolicy,
        doc="How messages are put together before they are handed to the outputs.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens all children."""
        async with AsyncExitStack() as stack:
            children = [
                await stack.enter_async_context(env.output(node))
                for node in self.outputs * self.copies
            ]
            if self.pattern == "round_robin":
                yield _Turns(children)
            elif self.pattern == "greedy":
                yield _Greedy(children)
            else:
                yield _FanOut(self.pattern, env, children)


class _FanOut:
    def __init__(self, pattern: str, env: Env, children: list[Output]) -> None:
        self._env = env
        self._children = children
        self._one_by_one = "sequential" in pattern
        self._fail_fast = pattern.endswith("fail_fast")

    async def write(self, batch: Batch) -> None:
        if self._one_by_one:
            outcomes = await self._in_turn(batch)
        else:
            writes = (self._write(child, batch) for child in self._children)
            outcomes = await asyncio.gather(*writes)
        verdicts = told_by_several(outcomes, len(self._children))
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

    async def _in_turn(self, batch: Batch) -> list[dict[int, Exception]]:
        left = list(range(len(batch)))
        outcomes = []
        for child in self._children:
            failed = await self._write(child, [batch[index] for index in left])
            outcomes.append({left[at]: error for at, error in failed.items()})
            if self._fail_fast:
                stopped = {left[at] for at, one in failed.items() if not isinstance(one, Dropped)}
                left = [index for index in left if index not in stopped]
            if not left:
                break
        return outcomes

    async def _write(self, child: Output, batch: Batch) -> dict[int, Exception]:
        if self._fail_fast:
            return await verdicts_of(child.write, batch)

        def said(error: Exception) -> None:
            self._env.log.warning("an output of the broker failed, repeating", error=str(error))

        return await write_repeating(self._env, child, batch, said=said)


class _Turns:
    def __init__(self, children: list[Output]) -> None:
        self._next = itertools.cycle(children)

    async def write(self, batch: Batch) -> None:
        await next(self._next).write(batch)


class _Greedy:
    def __init__(self, children: list[Output]) -> None:
        self._busy = dict.fromkeys(range(len(children)), 0)
        self._children = children

    async def write(self, batch: Batch) -> None:
        number = min(self._busy, key=self._busy.__getitem__)
        self._busy[number] += 1
        try:
            await self._children[number].write(batch)
        finally:
            self._busy[number] -= 1
