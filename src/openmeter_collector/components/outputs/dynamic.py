"""Outputs that come and go while the collector runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    Batch,
    Env,
    Example,
    Node,
    Output,
    OutputNode,
    Rejected,
    Retryable,
    as_failure,
    field,
    output,
)
from openmeter_collector.components.dynamic_api import DynamicApi, paths
from openmeter_collector.components.outputs.repeating import write_repeating

ONE = Example(
    "One output from the start, more by request",
    """
    output:
      dynamic:
        outputs:
          openmeter:
            openmeter:
              url: https://openmeter.cloud
              token: ${OPENMETER_TOKEN}
    """,
)


@output("dynamic", categories=("Utility",), examples=[ONE])
class DynamicOutput:
    """Writes every message to all of a set of outputs, which can be changed over HTTP while it runs.

    Each output is repeated until it has the message. While there is none, messages wait. An output that
    is removed is not waited for any more.

    On the collector's own HTTP service, below `prefix`:

    - `GET /outputs`: all outputs, with `uptime` and `config`.
    - `GET /outputs/{label}`: the config of one, secrets hidden.
    - `POST /outputs/{label}`: adds or replaces one; the body is its config in YAML or JSON. A config
      with faults is answered 400 with all of them, and changes nothing.
    - `DELETE /outputs/{label}`: removes one.
    - `GET /outputs/{label}/uptime`: how long it has been there.

    Everybody who reaches that service can do this: protect it (`http.basic_auth`, or an address of the
    machine's own). Configs that come this way cannot touch files or start programs, and are gone with
    the end of the process.
    """

    outputs: dict[str, OutputNode] = field(
        default_factory=dict, doc="Outputs that are there from the start, by label."
    )
    prefix: str = field(default="", doc="What the paths begin with.", examples=["/collector"])
    max_in_flight: int = field(
        default=64, minimum=1, ours=True, doc="Writes under way at the same time."
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Opens the outputs of the config, and mounts the endpoints."""
        async with asyncio.TaskGroup() as group:
            fan = _Fan(env, group)
            try:
                for label, node in self.outputs.items():
                    await fan.start(label, node)
                    fan.api.add(label, node)
                async with env.mount(paths(self.prefix, "output"), fan.api):
                    yield fan
            finally:
                await fan.close()


class _Held:
    """A child in a task of its own, which opens and closes it."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[Output] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.writing: set[asyncio.Task[dict[int, Exception]]] = set()
        self.task: asyncio.Task[None] | None = None

    async def hold(self, env: Env, node: Node) -> None:
        try:
            async with env.output(node) as child:
                self.opened.set_result(child)
                await self.gone.wait()
        except Exception as error:
            if self.opened.done():
                raise
            self.opened.set_exception(error)


class _Fan:
    def __init__(self, env: Env, group: asyncio.TaskGroup) -> None:
        self._env = env
        self._group = group
        self._children: dict[str, _Held] = {}
        self.api = DynamicApi(env, "output", self.start, self.stop)

    async def start(self, label: str, node: Node) -> None:
        held = _Held()
        held.task = self._group.create_task(held.hold(self._env, node))
        await held.opened
        self._children[label] = held

    async def stop(self, label: str) -> None:
        held = self._children.pop(label, None)
        if held is None or held.task is None:
            return
        held.gone.set()
        for writing in held.writing:
            writing.cancel()
        await asyncio.wait({held.task})

    async def close(self) -> None:
        """Close all outputs."""
        for label in list(self._children):
            await self.stop(label)

    async def write(self, batch: Batch) -> None:
        if not self._children:
            raise Retryable(f"{self._env.node.display()}: there is no output at the moment")
        verdicts: dict[int, Exception] = {}
        writes = [self._write(held, batch) for held in self._children.values()]
        for failed in await asyncio.gather(*writes):
            for index, error in failed.items():
                # Of several the one that asks for repetition is heard: a refusal comes again.
                if isinstance(verdicts.setdefault(index, error), Rejected):
                    verdicts[index] = error
        if (failure := as_failure(verdicts, len(batch))) is not None:
            raise failure

    async def _write(self, held: _Held, batch: Batch) -> dict[int, Exception]:
        writing = self._group.create_task(
            write_repeating(self._env, held.opened.result(), batch, said=self._said)
        )
        held.writing.add(writing)
        try:
            return await writing
        except asyncio.CancelledError:
            if held.gone.is_set() and not _cancelled():
                return {}  # removed: nobody waits for it any more
            writing.cancel()
            raise
        finally:
            held.writing.discard(writing)

    def _said(self, error: Exception) -> None:
        self._env.log.warning("a dynamic output failed, repeating", error=str(error))


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
