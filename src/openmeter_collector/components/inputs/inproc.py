"""Takes messages that another pipeline of the same process hands over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Env,
    Example,
    Handover,
    Input,
    Intake,
    Retryable,
    field,
    input,  # noqa: A004
)

FROM_INGEST = Example(
    "Take what the stream that receives hands over",
    """
    input:
      inproc: openmeter
    """,
)


@input("inproc", categories=("Utility",), examples=[FROM_INGEST], value="name")
class InprocInput:
    """Takes messages from `inproc` outputs of the same name, in other streams of this process.

    Acknowledgements go from end to end: whoever handed a message over waits until it is in this
    stream's buffer, or delivered if there is none.
    """

    name: str = field(doc="The name at which both sides meet.", examples=["openmeter"])

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Input]:
        yield _Taker(env.handover(self.name))


class _Taker:
    def __init__(self, handover: Handover) -> None:
        self._handover = handover

    async def run(self, intake: Intake) -> None:
        while True:
            delivery = await self._handover.take()
            try:
                await intake.put(delivery)
            except asyncio.CancelledError:
                delivery.settle(Retryable("inproc: the stream that was to take this has stopped"))
                raise
