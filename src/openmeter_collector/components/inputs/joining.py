"""Joins what several inputs read by an id, for `sequence`."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from openmeter_collector.api import (
    ByteSize,
    ConfigError,
    Delivery,
    EndOfInput,
    Env,
    Hold,
    InputNode,
    Message,
    Overloaded,
    Puller,
    field,
    section,
)
from openmeter_collector.values import json

_AHEAD: Final = 64
"""Joined messages that wait to be taken."""
_OVERHEAD: Final = 512
"""Bytes that a message in memory costs beside its content, roughly."""

Strategy = Literal["array", "replace", "keep"]


@section
class ShardedJoin:
    """Joins messages of all inputs that have the same id into one."""

    type: Literal["none", "full-outer", "outer", "full-outter", "outter"] = field(
        default="none",
        choices={
            "none": "The inputs are read one after the other, and nothing is joined.",
            "full-outer": "One message for each id that was in any input, when all are read.",
            "outer": "One for each message of the last input, joined with what came before it.",
            "full-outter": "An older name of `full-outer`.",
            "outter": "An older name of `outer`.",
        },
        doc="Which messages come out.",
    )
    id_path: str = field(
        default="",
        doc="Dot path of the id: text, a number or a boolean. Messages that are no objects or do not have "
        "it are dropped and counted (`input_join_dropped`). Needed for a join.",
    )
    iterations: int = field(
        default=1,
        minimum=1,
        doc="How many times everything is read, each time for another part of the ids. More need less "
        "memory and more time.",
    )
    merge_strategy: Strategy = field(
        default="array",
        choices={
            "array": "Both values in an array; arrays are put together.",
            "replace": "The newer value.",
            "keep": "The older value.",
        },
        doc="What becomes of a field that is there twice. Objects are merged field by field.",
    )
    max_size: ByteSize = field(
        default=ByteSize(512 << 20),
        ours=True,
        doc="Memory for one iteration, estimated. The collector stops when it is not enough.",
    )


@asynccontextmanager
async def joined(join: ShardedJoin, nodes: Sequence[InputNode], env: Env) -> AsyncIterator[Puller]:
    """Reads the inputs and gives what they make together.

    Raises:
        ConfigError: `id_path` is missing.
    """
    if not join.id_path:
        raise ConfigError(
            f"{env.node.path}: sequence.sharded_join.id_path: is empty; give the path of the id by which "
            "messages are joined"
        )
    joiner = _Joiner(join, nodes, env)
    reading = asyncio.create_task(joiner.run())
    try:
        yield joiner
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


@dataclass(slots=True)
class _Seen:
    """What was read of one part of the ids, whatever the order."""

    count: int = 0
    sums: int = 0

    def add(self, content: bytes) -> None:
        digest = hashlib.blake2b(content, digest_size=8).digest()
        self.count += 1
        self.sums = (self.sums + int.from_bytes(digest)) % (1 << 64)


class _Joiner:
    """See `component.input.Puller`. One life reads everything `iterations` times.

    Sources are told that they are done with once only, in the last iteration, when the joined messages
    of all are safe; and only if they gave the same as in the iterations before: what was added
    meanwhile may belong to ids that had their turn.
    """

    def __init__(self, join: ShardedJoin, nodes: Sequence[InputNode], env: Env) -> None:
        self._join = join
        self._nodes = nodes
        self._env = env
        self._ready: asyncio.Queue[Delivery | Exception] = asyncio.Queue(_AHEAD)
        self._under_way = 0
        self._settled = asyncio.Event()
        self._seen: dict[int, _Seen] = {}

    async def read(self) -> Delivery:
        found = await self._ready.get()
        if isinstance(found, Exception):
            self._ready.put_nowait(found)  # whoever asks again is told again
            raise found
        return found

    async def run(self) -> None:
        """Read everything; how it went is what `read` says at last."""
        try:
            for turn in range(self._join.iterations):
                await self._iteration(turn)
        except Exception as error:  # noqa: BLE001 - raised again by read
            await self._ready.put(_first(error))
        else:
            await self._ready.put(EndOfInput("all is joined"))

    async def _iteration(self, turn: int) -> None:
        part = _Part(self._join, turn, self._env, self._emit)
        async with asyncio.TaskGroup() as tasks:
            holds = [Hold(tasks) for _ in self._nodes]
            for at, (node, hold) in enumerate(zip(self._nodes, holds, strict=True)):
                part.in_last = at == len(self._nodes) - 1
                running = tasks.create_task(self._child(node, hold, part))
                ended = tasks.create_task(hold.ended.wait())
                await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
            await part.flush()
            await self._all_settled()
            if self._is_complete(part, turn):
                await self._acknowledge(holds)
            for hold in holds:
                hold.release()

    async def _child(self, node: InputNode, hold: Hold, part: _Part) -> None:
        async with self._env.input(node, reopen=False, hold=hold) as child:
            await child.run(part)

    def _is_complete(self, part: _Part, turn: int) -> bool:
        """Whether this was the last iteration, and joined with those before it is all there is."""
        if turn < self._join.iterations - 1:
            self._seen[turn] = part.seen.get(turn, _Seen())
            return False
        changed = [at for at, seen in self._seen.items() if part.seen.get(at, _Seen()) != seen]
        if changed:
            self._env.log.warning(
                "the inputs gave other messages in a later iteration; they are not told that they are "
                "done with, so that nothing is lost",
                input=self._env.node.path,
            )
        return not changed

    async def _acknowledge(self, holds: Sequence[Hold]) -> None:
        checkpoints = [one for hold in holds for one in hold.checkpoints]
        if checkpoints:
            # After the joined messages, which are safe: never a position without them.
            await self._hand_over(Delivery([], self._counted(), checkpoints))
            await self._all_settled()
        for hold in holds:
            hold.settle()

    async def _emit(self, message: Message) -> None:
        await self._hand_over(Delivery([message], self._counted()))

    async def _hand_over(self, delivery: Delivery) -> None:
        self._under_way += 1
        await self._ready.put(delivery)

    def _counted(self) -> Callable[[Exception | None], None]:
        def settle(failure: Exception | None) -> None:
            del failure  # one that can be helped is repeated by the engine
            self._under_way -= 1
            self._settled.set()

        return settle

    async def _all_settled(self) -> None:
        while self._under_way:
            self._settled.clear()
            await self._settled.wait()


@dataclass(slots=True)
class _Joined:
    value: dict[str, Any]
    metadata: dict[str, Any]

    def message(self) -> Message:
        return Message(json.dumps(self.value), dict(self.metadata))


class _Part:
    """See `component.input.Intake`. Joins the messages of one part of the ids."""

    def __init__(
        self, join: ShardedJoin, turn: int, env: Env, emit: Callable[[Message], Any]
    ) -> None:
        self._join = join
        self._turn = turn
        self._last_turn = turn == join.iterations - 1
        self._path = [_unescaped(one) for one in join.id_path.split(".")]
        self._merge = partial(_merge, strategy=join.merge_strategy)
        self._where = f"{env.node.path}: sequence.sharded_join"
        self._emit = emit
        self._outer = join.type in {"outer", "outter"}
        self._dropped = env.metrics.counter(
            "input_join_dropped", "Messages that were read for a join and left out of it by a rule."
        )
        self._found: dict[bytes, _Joined] = {}
        self._size = 0
        self.seen: dict[int, _Seen] = {}
        self.in_last = False
        """Whether the last of the inputs is being read."""

    async def put(self, delivery: Delivery) -> None:
        for message in delivery.batch:
            joined = self._add(message)
            if joined is not None and self._outer and self.in_last:
                await self._emit(joined.message())
        self._grow(_OVERHEAD)  # the delivery itself is kept until the end
        delivery.settle(None)

    def offer(self, delivery: Delivery) -> None:
        del delivery
        raise Overloaded("what is joined is read, and not received")

    def dropped(self, messages: Sequence[Message], rule: str) -> None:
        del rule
        if self._last_turn:  # each is read once in every iteration
            self._dropped.add(len(messages))

    def refused(self, contents: Sequence[bytes], reason: str) -> None:
        del contents, reason
        raise AssertionError("what is joined is read, and not received")

    async def flush(self) -> None:
        """Hand over what was joined."""
        while self._found:
            _, joined = self._found.popitem()
            if not self._outer:
                await self._emit(joined.message())

    def _add(self, message: Message) -> _Joined | None:
        try:
            value = message.structured()
        except ValueError:
            value = None
        key = _key(value, self._path)
        if key is None or not isinstance(value, dict):
            self.dropped([message], "no id")
            return None
        digest = hashlib.blake2b(key, digest_size=8).digest()
        shard = int.from_bytes(digest) % self._join.iterations
        if shard == self._turn or self._last_turn:
            self.seen.setdefault(shard, _Seen()).add(message.content)
        if shard != self._turn:
            return None
        self._grow(len(message.content) + _OVERHEAD)
        value = copy.deepcopy(value)  # messages are immutable
        joined = self._found.get(key)
        if joined is None:
            joined = self._found[key] = _Joined(value, dict(message.metadata))
        else:
            _remove(value, self._path)
            self._merge(joined.value, value)
            joined.metadata.update(message.metadata)
        return joined

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > int(self._join.max_size):
            raise ConfigError(
                f"{self._where}: what is to be joined needs more than max_size ({int(self._join.max_size)} bytes) "
                f"in one of {self._join.iterations} iterations; raise iterations or max_size"
            )


def _merge(into: dict[str, Any], more: Mapping[str, Any], strategy: Strategy) -> None:
    for name, new in more.items():
        if name not in into:
            into[name] = new
        elif isinstance(into[name], dict) and isinstance(new, dict):
            _merge(into[name], new, strategy)
        elif strategy == "array":
            into[name] = [*_listed(into[name]), *_listed(new)]
        elif strategy == "replace":
            into[name] = new


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _unescaped(step: str) -> str:
    return step.replace("~1", ".").replace("~0", "~")


def _key(value: Any, path: Sequence[str]) -> bytes | None:
    """The id, so that 1 and "1" are two; None when there is none."""
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    if value is None or value == "" or isinstance(value, (dict, list)):
        return None
    return json.dumps(value)


def _remove(value: dict[str, Any], path: Sequence[str]) -> None:
    for step in path[:-1]:
        value = value[step]
    del value[path[-1]]


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
