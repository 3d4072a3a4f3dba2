"""Sends metrics to a StatsD server, over UDP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

from openmeter_collector.api import (
    Counter,
    Duration,
    Env,
    Example,
    Gauge,
    MetricsExporter,
    Page,
    Timer,
    field,
    metrics,
)

DATADOG = Example(
    "To the agent on the same machine, with tags",
    """
    metrics:
      statsd:
        address: localhost:8125
        tag_format: datadog
        tags:
          zone: eu
    """,
)
_PACKET: Final = 1432
"""Bytes of a datagram that fits into a frame of Ethernet with all headers."""
_FORBIDDEN: Final = str.maketrans(dict.fromkeys(":|@#,=\n\r ", "_"))


def _address_problem(address: str) -> str | None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        return f"{address!r} is no address; write host:port, such as localhost:8125"
    return None


@metrics("statsd", categories=("Services",), examples=[DATADOG])
class Statsd:
    """Sends metrics to a StatsD server: counters as what was added since the last time, gauges when they
    have changed, timers as their observations, in the unit that their name says.

    StatsD goes over UDP: what is lost on the way is not noticed by anybody. `/metrics` and `/stats`
    answer 404. When a timer has more observations in a period than are kept (512), a sample is sent,
    with its rate.
    """

    address: str = field(
        doc="Host and port of the server.", examples=["localhost:8125"], lint=_address_problem
    )
    flush_period: Duration = field(
        default=Duration("100ms"), minimum=0.001, doc="Time between two sends."
    )
    tag_format: Literal["none", "datadog", "influxdb"] = field(
        default="none",
        doc="How labels are written.",
        choices={
            "none": "Not at all; metrics of all components with the same name are one.",
            "datadog": "`name:1|c|#label:value`",
            "influxdb": "`name,label=value:1|c`",
        },
    )
    tags: dict[str, str] = field(
        default_factory=dict,
        advanced=True,
        doc="Labels on every metric.",
        examples=[{"hostname": "localhost", "zone": "danger"}],
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[MetricsExporter]:
        """Sends now and then, and once more at the end."""
        sender = _Sender(self, env)
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(sender.run())
                try:
                    yield sender
                finally:
                    sending.cancel()
            await sender.flush()
        finally:
            sender.close()


class _Sender:
    def __init__(self, config: Statsd, env: Env) -> None:
        self._env = env
        self._every = float(config.flush_period)
        self._lines = _Lines(config.tag_format, config.tags)
        host, _, port = config.address.rpartition(":")
        self._address = host.strip("[]"), int(port)
        self._socket: asyncio.DatagramTransport | None = None
        self._unreachable = False

    def page(self, accept: str = "") -> Page | None:
        del accept
        return None

    async def run(self) -> None:
        while True:
            await self._env.sleep(self._every)
            await self.flush()

    async def flush(self) -> None:
        """Send what is new."""
        socket = self._socket or await self._connect()
        if socket is None:
            return  # what is new stays new
        packet = b""
        for line in self._lines.new(self._env):
            if packet and len(packet) + 1 + len(line) > _PACKET:
                socket.sendto(packet)
                packet = b""
            packet = packet + b"\n" + line if packet else line
        if packet:
            socket.sendto(packet)

    async def _connect(self) -> asyncio.DatagramTransport | None:
        loop = asyncio.get_running_loop()
        try:
            self._socket, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=self._address
            )
        except OSError as error:
            if not self._unreachable:
                self._env.log.warning("the StatsD server is not known", error=str(error))
            self._unreachable = True
            return None
        self._unreachable = False
        return self._socket

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()


class _Lines:
    """What was sent, and what is new."""

    def __init__(self, tag_format: str, tags: Mapping[str, str]) -> None:
        self._format = tag_format
        self._tags = dict(tags)
        self._sent: dict[int, float] = {}
        self._prefixes: dict[int, tuple[bytes, bytes]] = {}

    def new(self, env: Env) -> Iterator[bytes]:
        """A line for each figure that has changed."""
        for name, labels, metric in env.metrics.store.children():
            if isinstance(metric, Timer):
                yield from self._timings(name, labels, metric)
            elif isinstance(metric, Gauge):
                value = metric.read()
                if self._sent.get(id(metric)) != value:
                    self._sent[id(metric)] = value
                    if value < 0:
                        # A sign would mean a change: StatsD sets a gauge below 0 by way of 0.
                        yield self._line(name, labels, metric, 0, b"|g")
                    yield self._line(name, labels, metric, value, b"|g")
            else:
                total = metric.value if isinstance(metric, Counter) else sum(metric.counts)
                added = total - self._sent.get(id(metric), 0.0)
                if added:
                    self._sent[id(metric)] = total
                    yield self._line(name, labels, metric, added, b"|c")

    def _timings(self, name: str, labels: Mapping[str, str], timer: Timer) -> Iterator[bytes]:
        made = timer.count - int(self._sent.get(id(timer), 0))
        self._sent[id(timer)] = timer.count
        known = timer.latest(made)
        kind = b"|ms" if len(known) == made else b"|ms|@%.6f" % (len(known) / made)
        for value in known:
            yield self._line(name, labels, timer, value, kind)

    def _line(
        self, name: str, labels: Mapping[str, str], metric: object, value: float, kind: bytes
    ) -> bytes:
        before, after = self._prefixes.get(id(metric)) or self._around(name, labels, metric)
        number = b"%d" % value if value == int(value) else b"%g" % value
        return b"%b:%b%b%b" % (before, number, kind, after)

    def _around(self, name: str, labels: Mapping[str, str], metric: object) -> tuple[bytes, bytes]:
        tags = [
            (key.translate(_FORBIDDEN), value.translate(_FORBIDDEN))
            for key, value in {**self._tags, **labels}.items()
            if value
        ]
        before, after = name.translate(_FORBIDDEN), ""
        if tags and self._format == "influxdb":
            before += "".join(f",{key}={value}" for key, value in tags)
        elif tags and self._format == "datadog":
            after = "|#" + ",".join(f"{key}:{value}" for key, value in tags)
        made = self._prefixes[id(metric)] = before.encode(), after.encode()
        return made
