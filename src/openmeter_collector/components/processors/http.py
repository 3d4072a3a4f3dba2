"""Asks an HTTP server about messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    ByteSize,
    Env,
    Example,
    Exchange,
    HttpRequest,
    HttpResponse,
    Message,
    Requester,
    field,
    processor,
    requester,
)
from openmeter_collector.bloblang import MappingFailed
from openmeter_collector.components.processors.common import Flag, joined_origin
from openmeter_collector.values.multipart import boundary_of, join_multipart, split_multipart

LOOK_UP = Example(
    "Put what a service knows of a customer into its events",
    """
    pipeline:
      processors:
        - branch:
            request_map: root = ""
            processors:
              - http:
                  url: https://accounts.example.com/v1/customers/${! json("subject") }
                  verb: GET
                  retries: 3
            result_map: root.data.plan = this.plan
        - catch:
            - log:
                level: ERROR
                message: 'no plan: ${! error() }'
    """,
)


@processor("http", categories=("Integration",), examples=[LOOK_UP])
class Http(HttpRequest):
    """Sends each message as the body of a request and replaces it by the answer.

    The metadata gets `http_status_code` and what `extract_headers` names. When the last attempt has
    failed, the message goes on as it was, flagged, with the status of the answer if there was one.
    Inside a `branch` the message keeps its form, and only the answer is put into it.

    An empty message is sent without a body. Which answers fail and what is tried again is said by
    `successful_on`, `backoff_on`, `drop_on` and `retries`; `Retry-After` is waited for.
    """

    batch_as_multipart: bool = field(
        default=False,
        advanced=True,
        doc="Send a batch as one multipart request. The parts of a multipart answer become messages.",
    )
    parallel: bool = field(
        default=False,
        doc="Ask for all messages of a batch at the same time, up to 64, not one after the other.",
    )
    max_response: ByteSize = field(
        default=ByteSize("32MiB"),
        ours=True,
        advanced=True,
        doc="Largest answer; a larger one is a failure.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[AsyncProcessor]:
        """Nothing is sent on opening."""
        # One byte more, by which an answer that was cut is known.
        most = int(self.max_response) + 1
        async with requester(self, env, max_response_bytes=most) as asking:
            yield _Asker(self, asking, env)


class _Asker:
    def __init__(self, config: Http, asking: Requester, env: Env) -> None:
        self._config = config
        self._asking = asking
        self._flag = Flag(env)

    async def process(self, batch: Batch) -> list[Batch]:
        if self._config.batch_as_multipart and len(batch) > 1:
            return [await self._as_one(batch)]
        if self._config.parallel and len(batch) > 1:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(self._one(batch, index)) for index in range(len(batch))]
            return [[message for one in asked for message in one.result()]]
        return [
            [message for index in range(len(batch)) for message in await self._one(batch, index)]
        ]

    async def _one(self, batch: Batch, index: int) -> Batch:
        message = batch[index]
        done = await self._exchange(batch, index, message.content or None, "")
        if done.failure is not None or done.response is None:
            return [self._failed(message, done)]
        parts = self._parts(done.response)
        return [self._answered(message, part, done.response) for part in parts]

    async def _as_one(self, batch: Batch) -> Batch:
        kind, body = join_multipart([message.content for message in batch])
        done = await self._exchange(batch, 0, body, kind)
        if done.failure is not None or done.response is None:
            return [self._failed(message, done) for message in batch]
        # Nobody can say which part answers which message, so each stands for all of them.
        origin = joined_origin(batch)
        made = []
        for number, part in enumerate(self._parts(done.response)):
            like = batch[number] if number < len(batch) else batch[0]
            made.append(self._answered(like.at(origin), part, done.response))
        return made

    async def _exchange(self, batch: Batch, index: int, body: bytes | None, kind: str) -> Exchange:
        try:
            done = await self._asking.exchange(batch, index, body, kind)
            if done.response is not None and len(done.response.body) > self._config.max_response:
                most = int(self._config.max_response)
                return Exchange(
                    None, ValueError(f"the answer is larger than max_response ({most})")
                )
            if done.response is not None and done.failure is None:
                self._parts(done.response)
        except (MappingFailed, ValueError) as error:
            return Exchange(None, error)
        return done

    def _parts(self, response: HttpResponse) -> list[bytes]:
        kind = response.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/") or (boundary := boundary_of(kind)) is None:
            return [response.body]
        return split_multipart(response.body, boundary) or [b""]

    def _answered(self, message: Message, body: bytes, response: HttpResponse) -> Message:
        return self._noted(message, response).with_content(body)

    def _failed(self, message: Message, done: Exchange) -> Message:
        if done.response is not None:
            message = self._noted(message, done.response)
        return self._flag(message, done.failure or "no answer")

    def _noted(self, message: Message, response: HttpResponse) -> Message:
        found = self._config.extract_headers.select(response.headers)
        return message.with_metadata(
            {**message.metadata, **found, "http_status_code": response.status}
        )
