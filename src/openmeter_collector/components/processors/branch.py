"""Works on a part of a message on the side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    Chain,
    Env,
    Example,
    MappingText,
    Message,
    Processor,
    ProcessorNode,
    field,
    processor,
)
from openmeter_collector.bloblang import DELETED, NOTHING, MappingFailed
from openmeter_collector.components.processors.common import Flag, flat, processor_of
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


@processor("branch", categories=("Composition",), examples=[LOOK_UP])
class Branch:
    """Makes a message of each message, runs processors over those, and puts results back.

    `request_map` makes what the processors get; without it, it is the message itself, and
    `root = deleted()` leaves a message out. In `result_map` `this` is the result and `root` the
    message as it was: what is not assigned stays. Without it, the result is not used.

    When anything fails on the way, the message goes on as it was, flagged. So does each, when the
    processors make more or fewer messages than they got and it cannot be said which is whose.
    """

    request_map: MappingText | None = field(default=None, doc="Makes what the processors get.")
    processors: list[ProcessorNode] = field(doc="What is run on the side.")
    result_map: MappingText | None = field(default=None, doc="Puts the result into the message.")

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        async with env.processors(self.processors) as chain:
            yield processor_of(_Brancher(self, chain, env).run, waits=not chain.sync)


class _Brancher:
    def __init__(self, config: Branch, chain: Chain, env: Env) -> None:
        self._request = config.request_map.program if config.request_map else None
        self._result = config.result_map.program if config.result_map else None
        self._chain = chain
        self._flag = Flag(env)
        self._paths = (
            tuple(_assigned(self._result.program.statements)) if self._result is not None else ()
        )

    async def run(self, batch: Batch) -> list[Batch]:
        made = list(batch)
        places: list[int] = []
        requests: Batch = []
        for index, message in enumerate(batch):
            try:
                request = self._asked(batch, index)
            except (MappingFailed, ValueError, RecursionError) as error:
                made[index] = self._flag(message, f"request mapping failed: {error}")
                continue
            if request is not None:
                places.append(index)
                requests.append(request.with_error(None))
        if requests:
            results = flat(await self._chain.run(requests))
            self._return(made, places, results)
        return [made] if made else []

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

    def _return(self, made: Batch, places: list[int], results: Batch) -> None:
        if len(results) != len(places):
            text = f"message count mismatch from branch: {len(places)} became {len(results)}"
            for index in places:
                made[index] = self._flag(made[index], text)
            return
        for number, index in enumerate(places):
            result = results[number]
            if result.error is not None:
                made[index] = made[index].with_error(result.error)
            elif self._result is not None:
                try:
                    made[index] = self._overlaid(made[index], results, number)
                except (MappingFailed, ValueError, RecursionError) as error:
                    text = f"result mapping failed: {error}"
                    made[index] = self._flag(made[index], text)

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
