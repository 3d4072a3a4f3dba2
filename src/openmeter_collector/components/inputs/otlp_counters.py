"""Cumulative counters as deltas: what was added in each window, exactly once.

The last point of every series is remembered (`Env.state`) and becomes true in the same transaction as
the deltas made from it. So a crash between the two cannot happen, a request that an exporter repeats
adds nothing, and a restart of ours loses nothing.

    another start time                   another life of the counter, with an account of its own
    a smaller value, same start          it began again at zero without saying so: all of it is new
    a point not later than the last one  known already: no delta
    seen for the first time              `initial` says whether what it holds is new
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import xxhash

from openmeter_collector.api import Checkpoint, Delivery, Env, Intake
from openmeter_collector.components.inputs.http_ingest import Refusal, retry_headers
from openmeter_collector.components.otlp.reading import Record, number, with_point
from openmeter_collector.values.moment import nanoseconds_text

Initial = Literal["auto", "keep", "drop"]

_SINCE: Final = "counters/since"
_SHARDS: Final = 4096
_MOST_IN_SHARD: Final = 10_000
_MOST_LOADED: Final = 200_000
_DAY: Final = 86_400
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Last:
    """The last point of a series: nanoseconds, and the counter."""

    start: int
    time: int
    value: float


@dataclass(slots=True)
class _Shard:
    """The series of some producers.

    Attributes:
        floor: start of the youngest series that was forgotten to make room, 0 for none. An unknown
            series that is not younger may be that one, and must not be counted again from its start.
    """

    series: dict[str, _Last]
    floor: int = 0


@dataclass(slots=True)
class _Change:
    """What a request does to the memory, not yet true."""

    shards: dict[str, _Shard]


class Counters:
    """The memory of all counters. One request at a time may change it."""

    def __init__(self, env: Env, initial: Initial, timeout: float) -> None:
        """Begin empty; shards are loaded when they are needed.

        Args:
            timeout: seconds to wait for the request before.
        """
        self._env = env
        self._initial = initial
        self._timeout = timeout
        self._shards: dict[str, _Shard] = {}
        self._since = 0
        self._turn = asyncio.Lock()
        self._known = env.metrics.counter(
            "otlp_points_known", "Points of counters not later than the last one of their series."
        )
        self._baselines = env.metrics.counter(
            "otlp_points_baseline", "First points of counters that began before this input did."
        )
        self._resets = env.metrics.counter("otlp_counter_resets", "Counters that began again.")

    async def start(self, intake: Intake) -> None:
        """Remember, the first time ever, that counting begins now.

        Raises:
            Retryable: the memory cannot be read now.
        """
        kept = await self._env.state.load(_SINCE)
        self._since = int(kept) if kept else int(self._env.now() * _NANO)
        if kept is None:
            checkpoint = self._env.state.checkpoint(_SINCE, str(self._since).encode())
            await intake.put(Delivery([], None, (checkpoint,)))

    async def begin(self) -> None:
        """Wait for one's turn; `end` must follow.

        Raises:
            Refusal: 503, the request before is not settled yet.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._turn.acquire()
        except TimeoutError as error:
            text = "the request before is not in the buffer yet"
            raise Refusal(503, text, retry_headers(None)) from error

    def end(self, change: _Change | None = None) -> None:
        """Give the turn to the next; with `change`, after it has become true."""
        if change is not None:
            for name, shard in change.shards.items():
                self._loaded(name, shard)
        self._turn.release()

    async def deltas(
        self, points: Iterator[tuple[Record, Any]]
    ) -> tuple[list[Record], _Change, tuple[Checkpoint, ...]]:
        """Records in which each point of a cumulative counter is a delta; the others as they are.

        Returns:
            The records, what to pass to `end` once they are safe, and the checkpoints that must be
            on their delivery.

        Raises:
            Retryable: the memory cannot be read now.
        """
        state = self._env.state
        change = _Change({})
        records = []
        for record, point in points:
            metric = record.value["metric"]
            if metric.get("temporality") != "cumulative" or not metric.get("monotonic"):
                records.append(record)
                continue
            shard = await self._shard(change, _shard_of(record))
            key = _series_of(record)
            last = shard.series.get(key)
            now = _Last(point.start_time_unix_nano, point.time_unix_nano, _counter(point))
            delta = self._delta(last, now, max(self._since, shard.floor))
            if last is None or now.time > last.time:
                shard.series[key] = now
            if delta is not None:
                records.append(_as_delta(record, *delta))
        checkpoints = [
            state.checkpoint(name, _encode(shard)) for name, shard in change.shards.items()
        ]
        return records, change, tuple(checkpoints)

    def _delta(self, last: _Last | None, now: _Last, since: int) -> tuple[float, int] | None:
        """What was added, and since when; None when nothing is to be said."""
        if last is None:
            begun = now.start > since if self._initial == "auto" else self._initial == "keep"
            if not begun:
                self._baselines.add()
                return None
            return now.value, now.start
        if now.time <= last.time:
            self._known.add()
            return None
        if now.value < last.value:
            self._resets.add()
            return now.value, last.time
        return now.value - last.value, last.time

    async def _shard(self, change: _Change, name: str) -> _Shard:
        """The part of the memory a producer is in, to be changed freely."""
        found = change.shards.get(name)
        if found is not None:
            return found
        kept = self._shards.get(name)
        if kept is None:
            kept = _decode(await self._env.state.load(name))
        self._loaded(name, kept)
        made = self._bounded(kept)
        change.shards[name] = made
        return made

    def _loaded(self, name: str, shard: _Shard) -> None:
        """Keep a shard in memory as the one used last; those not used for longest make room."""
        self._shards.pop(name, None)
        self._shards[name] = shard
        count = sum(len(one.series) for one in self._shards.values())
        while count > _MOST_LOADED and len(self._shards) > 1:
            oldest = next(iter(self._shards))
            count -= len(self._shards.pop(oldest).series)

    def _bounded(self, shard: _Shard) -> _Shard:
        """A copy; when there are too many series, without those not heard of for longest."""
        if len(shard.series) <= _MOST_IN_SHARD:
            return _Shard(dict(shard.series), shard.floor)
        by_age = sorted(shard.series.items(), key=lambda item: item[1].time, reverse=True)
        oldest = int((self._env.now() - _DAY) * _NANO)
        kept = {key: last for key, last in by_age[:_MOST_IN_SHARD] if last.time >= oldest}
        gone = [last.start for key, last in by_age if key not in kept]
        return _Shard(kept, max(shard.floor, *gone))


def _shard_of(record: Record) -> str:
    """All series of one producer are together, so that a request of its writes one value."""
    resource = orjson.dumps(record.value["resource"], option=orjson.OPT_SORT_KEYS)
    return f"counters/{xxhash.xxh3_64_intdigest(resource) % _SHARDS:03x}"


def _series_of(record: Record) -> str:
    """One life of one series: with its start, so that two lives that overlap do not mix."""
    value = record.value
    about = [
        value["resource"],
        value["scope"],
        value["metric"]["name"],
        value["metric"].get("unit", ""),
        value["point"]["attributes"],
        value["point"].get("start_time_unix_nano", 0),
    ]
    return xxhash.xxh3_128_hexdigest(orjson.dumps(about, option=orjson.OPT_SORT_KEYS))


def _counter(point: Any) -> float:
    return point.as_int if point.WhichOneof("value") == "as_int" else point.as_double  # type: ignore[no-any-return]


def _as_delta(record: Record, value: float, start: int) -> Record:
    point: dict[str, Any] = {"value": number(value) if isinstance(value, float) else value}
    if start:
        point |= {"start_time_unix_nano": start, "start_time": nanoseconds_text(start)}
    return with_point(record, {"temporality": "delta"}, point)


def _encode(shard: _Shard) -> bytes:
    rows = {key: [last.start, last.time, last.value] for key, last in shard.series.items()}
    return orjson.dumps({"floor": shard.floor, "series": rows})


def _decode(kept: bytes | None) -> _Shard:
    if not kept:
        return _Shard({})
    found = orjson.loads(kept)
    return _Shard({key: _Last(*row) for key, row in found["series"].items()}, found["floor"])
