"""Answers the request that a message came with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Example, Processor, processor, respond

REFUSE = Example(
    "Tell a sender what was wrong",
    """
    input:
      http_server:
        path: /events
        sync_response:
          status: ${! meta("status").or("204") }
      processors:
        - json_schema:
            schema: '{"type":"object","required":["id"]}'
        - catch:
            - mapping: |
                meta status = "400"
                root.detail = error()
            - sync_response: {}
            - mapping: root = deleted()
    """,
)


@processor("sync_response", categories=("Utility",), examples=[REFUSE])
class SyncResponse:
    """Stores the batch as the answer to the request it came with, and passes it on.

    The answer is sent when the request's messages are acknowledged. Where nobody waits (behind a
    buffer, with an input that cannot answer) nothing happens.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor]:
        del env
        yield _Responder()


class _Responder:
    def process(self, batch: Batch) -> list[Batch]:
        # Messages of several requests may be in one batch; each is answered with its own.
        if len({id(message.context) for message in batch}) <= 1:
            respond(batch)
            return [batch]
        by_request: dict[int, Batch] = {}
        for message in batch:
            by_request.setdefault(id(message.context), []).append(message)
        for own in by_request.values():
            respond(own)
        return [batch]
