"""Works on a part of a message on the side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    Env,
    Example,
    MappingText,
    Message,
    ProcessingError,
    Processor,
    ProcessorNode,
    field,
    processor,
    section,
)
from openmeter_collector.bloblang import DELETED, NOTHING, MappingFailed
from openmeter_collector.components.processors.common import Flag, Process, flat, processor_of
from openmeter_collector.components.processors.mapping import written

LOOK_UP = Example(
    "Add a customer's plan to its events",
    """
    cache_resources:
      - label: plans
        memory: {}
    processor_resources:
      - label: with_plan
        branch:
          request_map: root.subject = this.subject
          processors:
            - cache:
                resource: plans
                operator: get
                key: ${! json("subject") }
          result_map: root.data.plan = content().string()
    """,
)


@section
class BranchFields:
    """What is run on the side, and how it gets in and out."""

    request_map: MappingText | None = field(default=None, doc="Makes what the processors get.")
    processors: list[ProcessorNode] = field(doc="What is run on the side.")
    result_map: MappingText | None = field(default=None, doc="Puts the result into the message.")


@processor("branch", categories=("Composition",), examples=[LOOK_UP])
class Branch(BranchFields):
    """Makes a message of each message, runs processors over those, and puts results back.

    `request_map` makes what the processors get; without it, it is the message itself, and
    `root = deleted()` leaves a message out. In `result_map` `this` is the result and `root` the
    message as it was: what is not assigned stays. Without it, the result is not used.

    When anything fails on the way, the message goes on as it was, flagged. So does each, when the
    processors make more or fewer messages than they got and it cannot be said which is whose.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield processor_of(_running(Brancher(self, chain, env)), waits=not chain.sync)


@dataclass(slots=True)
class Round:
    """One batch on its way through a branch.

    Attributes:
        places: which messages of the batch took part, in order.
        results: what came of them; as many.
        failed: why those that failed did, by their place.
    """

    places: list[int]
    results: Batch
    failed: dict[int, ProcessingError]


class Brancher:
    """An open branch, whose two halves may be run apart."""

    def __init__(self, config: BranchFields, chain: Chain, env: Env) -> None:
        self._request = config.request_map.program if config.request_map else None
        self._result = config.result_map.program if config.result_map else None
        self._chain = chain
        self._flag = Flag(env)
        self._paths = (
            tuple(_assigned(self._result.program.statements)) if self._result is not None else ()
        )

    async def ask(self, batch: Batch, left_out: Collection[int] = ()) -> Round:
        """Run the processors. The batch is only read.

        Args:
            left_out: places of messages that do not take part.
        """
        made = Round([], [], {})
        requests: Batch = []
        for index in range(len(batch)):
            if index in left_out:
                continue
            try:
                request = self._asked(batch, index)
            except (MappingFailed, ValueError, RecursionError) as error:
                made.failed[index] = self._flag.error(f"request mapping failed: {error}")
                continue
            if request is not None:
                made.places.append(index)
                requests.append(request.with_error(None))
        if requests:
            made.results = flat(await self._chain.run(requests))
        if len(made.results) != len(made.places):
            text = f"message count mismatch from branch: {len(requests)} became {len(made.results)}"
            made.failed |= dict.fromkeys(made.places, self._flag.error(text))
            made.places, made.results = [], []
        return made

    def answer(self, batch: Batch, done: Round) -> None:
        """Put results into the messages of a batch, in place; those that fail stay as they are, and
        are added to `done.failed`.
        """
        for number, index in enumerate(done.places):
            result = done.results[number]
            if result.error is not None:
                error = result.error
                known = isinstance(error, ProcessingError)
                done.failed[index] = error if known else self._flag.error(error)  # type: ignore[assignment]
            elif self._result is not None:
                try:
                    batch[index] = self._overlaid(batch[index], done.results, number)
                except (MappingFailed, ValueError, RecursionError) as error:
                    done.failed[index] = self._flag.error(f"result mapping failed: {error}")

    def _asked(self, batch: Batch, index: int) -> Message | None:
        message = batch[index]
        if self._request is None:
            return message
        body, metadata = self._request.run(batch, index)
        if body is DELETED:
            return None
        if body is NOTHING:
            return message if metadata is None else message.with_metadata(metadata)
        return written(message, body, metadata)

    def _overlaid(self, message: Message, results: Batch, number: int) -> Message:
        assert self._result is not None
        body, metadata = self._result.run(results, number)
        if body is DELETED:
            return message
        if metadata is not None:
            metadata = _changed(message.metadata, results[number].metadata, metadata)
        if body is NOTHING:
            return message if metadata is None else message.with_metadata(metadata)
        if () not in self._paths and isinstance(body, dict):
            body = _put(message.structured(), body, self._paths)
        new = written(message, body, metadata)
        new.content  # noqa: B018 - without a JSON form it must fail here
        return new


def _running(brancher: Brancher) -> Process:
    async def run(batch: Batch) -> list[Batch]:
        made = list(batch)
        done = await brancher.ask(batch)
        brancher.answer(made, done)
        for index, error in done.failed.items():
            made[index] = made[index].with_error(error)
        return [made] if made else []

    return run


def _assigned(statements: Iterable[Any]) -> list[tuple[str, ...]]:
    """The paths that a mapping assigns to; the empty one is the whole document."""
    found: list[tuple[str, ...]] = []
    for statement in statements:
        if hasattr(statement, "branches"):
            for _, inner in statement.branches:
                found += _assigned(inner)
        elif hasattr(statement, "path"):
            found.append(tuple(statement.path))
    return found


def _put(document: Any, body: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> Any:
    """The document with what `body` has at `paths`; nothing is changed in place."""
    made = dict(document) if isinstance(document, dict) else {}
    for path in paths:
        value: Any = body
        for key in path:
            if not isinstance(value, dict) or key not in value:
                break
            value = value[key]
        else:
            _set(made, path, value)
    return made


def _set(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *outer, last = path
    for key in outer:
        inner = document.get(key)
        document[key] = dict(inner) if isinstance(inner, dict) else {}
        document = document[key]
    document[last] = value


def _changed(own: Any, before: Any, after: Any) -> dict[str, Any]:
    """Own metadata with what became of `before`."""
    made = {key: value for key, value in own.items() if key in after or key not in before}
    made |= {
        key: value for key, value in after.items() if key not in before or before[key] is not value
    }
    return made
