"""Answers the request that a message came with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmeter_collector.api import Batch, Env, Example, Output, output, respond

ECHO = Example(
    "Answer with what the mapping made, and deliver it",
    """
    output:
      broker:
        pattern: fan_out
        outputs:
          - sync_response: {}
          - http_client:
              url: https://example.com/events
    """,
)


@output("sync_response", categories=("Utility",), examples=[ECHO])
class SyncResponse:
    """Sends messages back as the answer to the request that they came with.

    Each request gets the messages that came with it, also when several were put into one batch.
    Nothing happens to messages whose request was answered already, from a buffer, or whose input
    cannot answer: they count as delivered.
    """

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        del env
        yield _Responder()


class _Responder:
    async def write(self, batch: Batch) -> None:
        of_requests: dict[int, Batch] = {}
        for message in batch:
            of_requests.setdefault(id(message.context), []).append(message)
        for messages in of_requests.values():
            respond(messages)
