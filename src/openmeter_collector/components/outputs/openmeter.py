"""Delivers events to OpenMeter, or to Kong Konnect's metering, over their ingest API.

A batch is one request. What the answer means for the events is said by the exception that is raised;
the engine does the rest: it halves a refused batch until the refused event is alone, pauses when we are
refused ourselves, and repeats everything else for ever.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from openmeter_collector.api import (
    Batch,
    BatchPolicy,
    ClientTls,
    Duration,
    Env,
    Example,
    HttpClient,
    HttpResponse,
    MappingText,
    Output,
    Paused,
    field,
    output,
    raise_for_answer,
)

CLOUD = Example(
    "Deliver to OpenMeter Cloud",
    """
    output:
      openmeter:
        url: https://openmeter.cloud
        token: ${OPENMETER_TOKEN:}
        batching:
          count: 100
          period: 1s
    """,
)
KONNECT = Example(
    "Deliver to Kong Konnect",
    """
    output:
      openmeter:
        url: https://us.api.konghq.com/v3/openmeter
        token: ${KONNECT_SYSTEM_ACCESS_TOKEN:}
    """,
)


@output("openmeter", since="0.1.0", categories=("Services",), examples=[CLOUD, KONNECT])
class OpenMeter:
    """Sends events to the OpenMeter ingest API, a batch at a time, as a JSON array.

    The messages have to be events in CloudEvents JSON format; their bytes are sent as they are.

    What is answered decides: 2xx, delivered. 400, 413 or 422, the batch is halved until the event
    that is refused is alone; it becomes a dead letter, its neighbours are delivered. 401, 403, 404
    and everything else that refuses us rather than the data: delivery pauses, is tried again slowly,
    and says so in the log and at `/ready`. 429, 5xx and no answer: tried again with growing pauses,
    not before `Retry-After`, for ever. A redirect is never followed, and a page for people is no
    success whatever its status: a login page of a network in between answers 200.
    """

    url: str = field(
        doc="Address of the API: the server's (`/api/v1/events` is added), or one that ends in "
        "`/v3/openmeter` (`/events` is added), or the full address of the ingest route.",
        examples=["https://openmeter.cloud", "https://us.api.konghq.com/v3/openmeter"],
    )
    token: str = field(default="", secret=True, doc="Bearer token; without it none is sent.")
    max_in_flight: int = field(default=10, doc="Requests under way at the same time.")
    batching: BatchPolicy = field(
        default_factory=lambda: BatchPolicy(count=100),
        doc="How events are put together. `count` is a cap; without a `period` nothing waits for "
        "company.",
    )
    timeout: Duration = field(
        default=Duration("30s"), ours=True, doc="Time for a request and its whole answer."
    )
    compression: Literal["none", "gzip"] = field(
        default="none",
        ours=True,
        choices={"none": "As it is.", "gzip": "The server or a proxy before it must accept it."},
        doc="How bodies are compressed.",
    )
    tls: ClientTls = field(
        default_factory=ClientTls, ours=True, advanced=True, doc="How the server is verified."
    )
    proxy_url: str = field(default="", ours=True, advanced=True, doc="HTTP proxy to go through.")
    tracing_attrs_map: MappingText | None = field(
        default=None,
        advanced=True,
        doc="Accepted for compatibility; upstream never applies it either.",
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Output]:
        """Nothing is sent on opening: the first request says whether all is well."""
        async with env.http(
            tls=self.tls.context("output.openmeter.tls"),
            max_connections=self.max_in_flight,
            max_response_bytes=64 << 10,
            proxy=self.proxy_url or None,
        ) as client:
            yield _Sender(self, client)


class _Sender:
    def __init__(self, config: OpenMeter, client: HttpClient) -> None:
        self._client = client
        self._url = ingest_url(config.url)
        self._timeout = float(config.timeout)
        self._gzip = config.compression == "gzip"
        self._headers = {"Content-Type": "application/json", "User-Agent": "openmeter-collector"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"
        if self._gzip:
            self._headers["Content-Encoding"] = "gzip"

    async def write(self, batch: Batch) -> None:
        body = b"[" + b",".join([message.content for message in batch]) + b"]"
        if self._gzip:
            body = gzip.compress(body, 3, mtime=0)
        response: HttpResponse = await self._client.request(
            "POST", self._url, headers=self._headers, body=body, timeout=self._timeout
        )
        if response.status >= 300 or response.status < 200:
            raise_for_answer(self._url, response)
        if response.body and _is_a_page(response):
            raise Paused(
                f"POST {self._url}: answered {response.status} with a page for people, which OpenMeter "
                "never does; something in between (a proxy, a login page) took the events: check `url` "
                "and `proxy_url`"
            )


def _is_a_page(response: HttpResponse) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"} or response.body.lstrip()[:1] == b"<"


def ingest_url(url: str) -> str:
    """The address of the ingest route that belongs to a base address."""
    base = url.rstrip("/")
    if base.endswith("/events"):
        return base
    if base.endswith("/v3/openmeter"):
        return f"{base}/events"
    return f"{base}/api/v1/events"
