"""A load generator that is not the bottleneck: many kept-alive connections, one request under way
on each, prepared bytes, and no HTTP library between them and the socket.

    python -m openmeter_collector.testing.load http://127.0.0.1:8888 --connections 64 --seconds 5

prints one line of JSON. Every event has an id of its own, `<prefix>-<number>`, so that nothing is
taken for a duplicate. It never sends anything twice: what is refused or cut off is only counted.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import click
import httptools
import orjson
import uvloop

_EVENT = (
    b'{"specversion":"1.0","id":"%s-%012d","source":"load","type":"request",'
    b'"subject":"customer-%d","time":"2026-01-01T00:00:00Z",'
    b'"data":{"method":"POST","path":"/v1/chat/completions","region":"eu-west-1","zone":"a",'
    b'"status":200,"duration_ms":%d,"tokens":1234}}'
)
"""About 250 bytes, the size that the figures of this project are stated for."""


_PATIENCE = 2.0
"""Seconds that an answer may still take after the end."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        url: the base, or the whole address of the ingest route.
        batch: events a request; 1 sends them bare.
        requests: stop after so many; 0 does not.
        seconds: stop after so long; 0 does not.
        warmup: seconds at the start that are sent but not counted.
        prefix: what ids start with.
    """

    url: str
    connections: int = 64
    batch: int = 1
    requests: int = 0
    seconds: float = 5.0
    warmup: float = 0.0
    token: str = ""
    prefix: str = "load"
    subjects: int = 10


@dataclass(slots=True)
class Report:
    """What happened.

    Attributes:
        answered: requests that got a whole answer, by its status.
        cut: requests whose connection ended before that.
        refused: attempts to connect that failed.
        accepted: numbers of the requests that got a 2xx, in order of the answers. Request `n` holds
            the events `n * batch` to `(n + 1) * batch - 1`.
    """

    seconds: float = 0.0
    batch: int = 1
    answered: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    refused: int = 0
    accepted: array[int] = field(default_factory=lambda: array("Q"))
    latencies: array[float] = field(default_factory=lambda: array("d"))

    def summary(self) -> dict[str, Any]:
        """The figures, as plain values; latencies in milliseconds."""
        total = sum(self.answered.values())
        ordered = sorted(self.latencies)
        good = sum(count for status, count in self.answered.items() if 200 <= status < 300)
        return {
            "requests": total,
            "events": good * self.batch,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(total / self.seconds, 1) if self.seconds else 0,
            "events_per_second": round(good * self.batch / self.seconds, 1) if self.seconds else 0,
            "latency_ms": {
                f"p{name}": round(
                    1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3
                )
                for name, share in (("50", 0.5), ("90", 0.9), ("99", 0.99), ("99.9", 0.999))
                if ordered
            },
            "statuses": {str(status): count for status, count in sorted(self.answered.items())},
            "cut": self.cut,
            "refused": self.refused,
        }


def event_bytes(prefix: str, number: int, subjects: int) -> bytes:
    """One event, exactly as it is sent."""
    return _EVENT % (prefix.encode(), number, number % subjects, number % 997)


def request_maker(load: Load) -> Callable[[int], bytes]:
    """A function from a request's number to its bytes, made of parts prepared once."""
    where = urlsplit(load.url)
    path = where.path if where.path.strip("/") else "/api/v1/events"
    kind = "cloudevents+json" if load.batch == 1 else "cloudevents-batch+json"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/{kind}\r\n"
        + (f"Authorization: Bearer {load.token}\r\n" if load.token else "")
        + "Content-Length: "
    ).encode()
    prefix, batch, subjects = load.prefix.encode(), load.batch, load.subjects

    def single(number: int) -> bytes:
        body = _EVENT % (prefix, number, number % subjects, number % 997)
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)

    def several(number: int) -> bytes:
        first = number * batch
        body = b"[%b]" % b",".join(
            _EVENT % (prefix, n, n % subjects, n % 997) for n in range(first, first + batch)
        )
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)

    return single if batch == 1 else several


class _Run:
    """The state that all connections share."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.make = request_maker(load)
        self.report = Report(batch=load.batch)
        self.next = 0
        self.connections: set[_Connection] = set()
        self.stopping = False
        self.counting = load.warmup == 0
        self.ended: float | None = None

    def stop(self) -> None:
        """Send nothing more, and wait only a little for what is under way."""
        self.stopping = True
        self.ended = time.perf_counter()
        asyncio.get_running_loop().call_later(_PATIENCE, self._abort)

    def _abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is whole."""

    __slots__ = (
        "_complete", "_known", "_known_status", "_number", "_parser", "_run", "_sent", "_wire", "lost",
    )  # fmt: skip

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._known = b""
        self._known_status = 0
        self._number = -1
        self._complete = False
        self._sent = 0.0
        self._parser: httptools.HttpResponseParser | None = None
        self._wire: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._run.connections.add(self)
        self._send()

    def _send(self) -> None:
        run = self._run
        assert self._wire is not None
        if run.stopping or (run.load.requests and run.next >= run.load.requests):
            self._number = -1
            self._wire.close()
            return
        self._number = run.next
        run.next += 1
        request = run.make(self._number)
        self._sent = time.perf_counter()
        self._wire.write(request)

    def data_received(self, data: bytes) -> None:
        # Equal answers, which is nearly all of them, are recognised as a whole and not parsed.
        if data == self._known and self._parser is None:
            self._answered(self._known_status)
            return
        fresh = self._parser is None
        parser = self._parser = self._parser or httptools.HttpResponseParser(self)
        self._complete = False
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._wire is not None
            self._wire.abort()
            return
        if self._complete:
            self._parser = None
            status = parser.get_status_code()
            if fresh and parser.should_keep_alive():
                self._known, self._known_status = data, status
            self._answered(status)

    def on_message_complete(self) -> None:
        self._complete = True

    def _answered(self, status: int) -> None:
        run = self._run
        if run.counting:
            report = run.report
            report.latencies.append(time.perf_counter() - self._sent)
            report.answered[status] += 1
        if 200 <= status < 300:
            run.report.accepted.append(self._number)
        self._send()

    def abort(self) -> None:
        """Give up waiting for an answer."""
        if self._wire is not None:
            self._wire.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._run.connections.discard(self)
        if self._number >= 0:
            self._run.report.cut += 1
        if not self.lost.done():
            self.lost.set_result(None)


async def run_load(load: Load) -> Report:
    """Send it and report; a connection that ends is opened again until the end.

    Raises:
        OSError: not one connection could be opened within two seconds.
    """
    run = _Run(load)
    where = urlsplit(load.url)
    host, port = where.hostname or "127.0.0.1", where.port or 80
    loop = asyncio.get_running_loop()
    began = time.perf_counter()

    async def keep_connected() -> None:
        connected = False
        while not run.stopping and not (load.requests and run.next >= load.requests):
            try:
                _, protocol = await loop.create_connection(lambda: _Connection(run), host, port)
            except OSError:
                run.report.refused += 1
                if not connected and time.perf_counter() - began > 2:
                    raise
                await asyncio.sleep(0.02)
                continue
            connected = True
            await protocol.lost

    def start_counting() -> None:
        nonlocal began
        began = time.perf_counter()
        run.counting = True

    if load.warmup:
        loop.call_later(load.warmup, start_counting)
    if load.seconds:
        loop.call_later(load.warmup + load.seconds, run.stop)
    was_enabled = gc.isenabled()
    gc.disable()  # nothing here makes cycles, and a pause would count as the server's
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(load.connections):
                group.create_task(keep_connected())
    except* OSError as errors:
        raise errors.exceptions[0] from None
    finally:
        if was_enabled:
            gc.enable()
    run.report.seconds = (run.ended or time.perf_counter()) - began
    return run.report


@click.command()
@click.argument("url")
@click.option("--connections", default=64, show_default=True)
@click.option("--batch", default=1, show_default=True, help="Events a request.")
@click.option("--requests", default=0, help="Stop after so many; 0 does not.")
@click.option("--seconds", default=5.0, show_default=True, help="Stop after so long; 0 does not.")
@click.option("--warmup", default=0.0, help="Seconds sent first and not counted.")
@click.option("--token", default="")
@click.option("--prefix", default="", help="What ids start with; by default, the time.")
@click.option("--subjects", default=10, show_default=True)
def main(**options: Any) -> None:
    """Send usage events as fast as the server answers, and print figures as JSON."""
    load = Load(**{**options, "prefix": options["prefix"] or f"{time.time_ns():x}"})
    try:
        report = uvloop.run(run_load(load))
    except OSError as error:
        raise click.ClickException(f"{load.url}: {error}") from None
    sys.stdout.buffer.write(orjson.dumps(report.summary(), option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
