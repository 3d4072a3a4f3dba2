"""Posts realistic usage events, and knows exactly what the other side said it took.

A seeder behaves as a careful sender should: each event has an id that never changes, what was not
answered is sent again, `Retry-After` is obeyed, and a refusal is final. That makes it an oracle:
everything in `accepted` must arrive, byte for byte, and nothing that is not in `issued` may.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import orjson

V1_PATH: Final = "/api/v1/events"
_SINGLE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_JSON = "application/json"
_AWKWARD = (
    b'{ "amount" : 1.50, "count": 123456789012345678901234567890,\n\t"name": "caf\\u00e9 caf\xc3\xa9",'
    b' "tiny": 1e-7, "empty": {}, "again": 1, "again": 2 }'
)
"""Valid JSON that a parse and a dump would change."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What to send.

    Attributes:
        url: the base address of a collector or of OpenMeter.
        rate: events a second; 0 is as fast as answers come.
        batch: at most this many events in one request.
        count: stop after so many events; 0 does not.
        subjects: how many customers there are.
        connections: how many requests may be under way.
        timeout: seconds to wait for an answer before sending again.
        seed: makes the events repeatable, times aside; None makes ids that no other run has.
        awkward: share of events whose data does not survive being parsed and written again.
    """

    url: str
    rate: float = 50.0
    batch: int = 1
    count: int = 0
    subjects: int = 10
    token: str = ""
    connections: int = 8
    timeout: float = 10.0
    seed: int | None = None
    awkward: float = 0.0


@dataclass(slots=True)
class Ledger:
    """What happened to every event.

    Attributes:
        issued: id -> exact bytes, of everything that was sent at least once.
        accepted: ids that a 2xx was received for.
        refused: id -> what the answer said; these are never sent again.
        attempts: requests sent; `answers` counts what came back, 0 being no answer.
    """

    issued: dict[str, bytes] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    by_type: Counter[str] = field(default_factory=Counter)
    by_subject: Counter[str] = field(default_factory=Counter)

    @property
    def unresolved(self) -> set[str]:
        """Ids that may or may not have been taken: no answer, and no more tries."""
        return self.issued.keys() - self.accepted - self.refused.keys()


class UsageEvents:
    """Makes events as an API gateway, an LLM gateway, a storage meter and a GPU scheduler do."""

    def __init__(self, subjects: int, seed: int | None = None, awkward: float = 0.0) -> None:
        self._random = random.Random(seed)
        self._subjects = subjects
        self._awkward = awkward
        self._makers: tuple[tuple[str, str, Callable[[], dict[str, Any]]], ...] = (
            ("request", "api-gateway", self._request),
            ("tokens", "llm-gateway", self._tokens),
            ("storage", "object-store", self._storage),
            ("gpu", "gpu-scheduler", self._gpu),
        )

    def next(self) -> tuple[str, str, str, bytes]:
        """Id, type, subject and exact bytes of a new event."""
        draw = self._random
        type_, source, make = draw.choices(self._makers, (5, 3, 1, 1))[0]
        id_ = str(uuid.UUID(int=draw.getrandbits(128), version=4))
        subject = f"customer-{draw.randrange(self._subjects)}"
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": id_,
            "source": source,
            "type": type_,
            "subject": subject,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        data = orjson.dumps(make())
        if self._awkward and draw.random() < self._awkward:
            data = _AWKWARD
        return id_, type_, subject, orjson.dumps(event)[:-1] + b',"data":' + data + b"}"

    def _request(self) -> dict[str, Any]:
        draw = self._random
        region = draw.choice(("us-east-1", "us-west-2", "eu-west-1", "eu-central-1"))
        return {
            "method": draw.choice(("GET", "POST")),
            "path": draw.choice(("/", "/about", "/contact", "/pricing", "/docs")),
            "region": region,
            "zone": region + draw.choice("abc"),
            "duration_ms": draw.randrange(1, 1000),
        }

    def _tokens(self) -> dict[str, Any]:
        draw = self._random
        provider, model = draw.choice(
            (("openai", "gpt-4o"), ("anthropic", "claude-sonnet"), ("mistral", "large"))
        )
        kind = draw.choice(("input", "output", "system"))
        return {
            "provider": provider,
            "model": model,
            "type": kind,
            "tokens": draw.randrange(1, 8000),
        }

    def _storage(self) -> dict[str, Any]:
        draw = self._random
        return {
            "bucket": f"bucket-{draw.randrange(5)}",
            "tier": draw.choice(("hot", "cold")),
            "gb_hours": round(draw.random() * 50, 3),
        }

    def _gpu(self) -> dict[str, Any]:
        draw = self._random
        return {
            "gpu": draw.choice(("a100", "h100", "l4")),
            "node": f"node-{draw.randrange(8)}",
            "gpu_seconds": draw.randrange(10, 3600),
        }


class Seeder:
    """Sends until it has sent enough or is told to stop."""

    def __init__(self, what: Seed) -> None:
        self.what = what
        self.ledger = Ledger()
        self._events = UsageEvents(what.subjects, what.seed, what.awkward)
        self._random = random.Random(what.seed)
        self._stop = asyncio.Event()
        self._made = 0
        self._next_slot = 0.0

    def stop(self) -> None:
        """Begin nothing new; requests that are under way still get their answer."""
        self._stop.set()

    async def run(self) -> Ledger:
        """Send everything. Cancelling is safe: the ledger says what was under way."""
        self._next_slot = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=self.what.timeout)
        connector = aiohttp.TCPConnector(limit=self.what.connections)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self.what.connections):
                group.create_task(self._send_all(session))
        return self.ledger

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            size = self.what.batch
            if self.what.count:
                size = min(size, self.what.count - self._made)
                if size <= 0:
                    return
            self._made += size
            if self.what.rate:
                slot = max(self._next_slot, time.monotonic() - 1)
                self._next_slot = slot + size / self.what.rate
                await self._pause(slot - time.monotonic())
                if self._stop.is_set():
                    return
            await self._send(session, self._new_events(size))

    def _new_events(self, size: int) -> dict[str, bytes]:
        events = {}
        for _ in range(size):
            id_, type_, subject, raw = self._events.next()
            events[id_] = raw
            self.ledger.by_type[type_] += 1
            self.ledger.by_subject[subject] += 1
        self.ledger.issued.update(events)
        return events

    async def _send(self, session: aiohttp.ClientSession, events: Mapping[str, bytes]) -> None:
        """Send one request until it is answered for good."""
        body, kind = self._encoded(list(events.values()))
        headers = {"Content-Type": kind}
        if self.what.token:
            headers["Authorization"] = f"Bearer {self.what.token}"
        address = self.what.url.rstrip("/") + V1_PATH
        tries = 0
        while True:
            tries += 1
            self.ledger.attempts += 1
            wait: float | None = None
            try:
                async with session.post(
                    address, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    text = await answer.text(errors="replace")
                    status = answer.status
                    wait = retry_after(answer.headers.get("Retry-After"), time.time())
            except (aiohttp.ClientError, TimeoutError, OSError):
                status, text = 0, ""
            self.ledger.answers[status] += 1
            if 200 <= status < 300:
                self.ledger.accepted.update(events)
                return
            if 300 <= status < 500 and status not in (408, 429):
                self.ledger.refused.update(dict.fromkeys(events, f"{status}: {text[:500]}"))
                return
            if wait is None:
                wait = min(5.0, 0.1 * 2 ** min(tries, 6)) * (0.5 + self._random.random() / 2)
            await self._pause(min(wait, 60.0))
            if self._stop.is_set():
                return

    def _encoded(self, raws: list[bytes]) -> tuple[bytes, str]:
        array = b"[" + b",".join(raws) + b"]"
        if len(raws) > 1:
            return array, self._random.choice((_BATCH, _BATCH, _JSON))
        return self._random.choice(
            ((raws[0], _SINGLE), (raws[0], _SINGLE), (array, _BATCH), (raws[0], _JSON))
        )

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until `stop`."""
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for; None when there is none that makes sense."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None
