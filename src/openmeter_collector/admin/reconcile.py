"""What was delivered against what the destination lists, event by event.

What was delivered is what the buffer keeps with `keep_sent`: the bytes that were sent, and confirmed.
The destination's list keeps of an event its id, source, type, subject, time to the second, and data;
these are compared, and nothing else can be.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from openmeter_collector.component.env import HttpClient, HttpResponse
from openmeter_collector.errors import CollectorError

Key = tuple[str, str]
"""Source and id: what makes an event the same."""

_PAGE: Final = 100
_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Fact:
    """What is compared of an event. `at`: whole Unix seconds; None where it has no readable time."""

    key: Key
    type: str
    subject: str
    at: int | None
    data: Any

    def differs(self, other: Fact) -> list[str]:
        """The fields that are not the same."""
        names = ("type", "subject", "at", "data")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


@dataclass(slots=True)
class Comparison:
    """What came of it. The values of `missing` are the bytes that were sent."""

    delivered: int = 0
    listed: int = 0
    missing: dict[Key, bytes] = field(default_factory=dict)
    extra: list[Key] = field(default_factory=list)
    different: dict[Key, list[str]] = field(default_factory=dict)

    def agrees(self, *, extra_counts: bool) -> bool:
        """Whether there is no difference."""
        return not (self.missing or self.different or (self.extra and extra_counts))


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events were delivered to, with what a request needs."""

    client: HttpClient
    url: str
    token: str = ""

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "openmeter-collector", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    async def listed(self, since: float, until: float, api: str) -> AsyncIterator[Fact]:
        """The destination's own list of the events with a time in [since, until).

        Args:
            api: `v1`, `v2` or `v3`.

        Raises:
            CollectorError: it does not answer as it should, or v1 cannot tell all.
        """
        pages = {"v1": self._windows, "v2": self._pages_v2, "v3": self._pages_v3}
        async for item in pages[api](int(since), int(until)):
            found = fact_of(item)
            if found is not None:
                yield found

    async def send(self, batch: list[bytes]) -> None:
        """Send events once more, as they were.

        Raises:
            CollectorError: it does not take them.
        """
        headers = self._headers | {"Content-Type": "application/json"}
        body = b"[" + b",".join(batch) + b"]"
        answer = await self.client.request(
            "POST", self.url, headers=headers, body=body, timeout=_TIMEOUT
        )
        if not 200 <= answer.status < 300:
            raise _odd_answer(self.url, answer)

    async def _windows(self, since: int, until: int) -> AsyncIterator[Any]:
        """v1 lists a hundred events and has no cursor: a stretch that is full is halved."""
        stretches = [(since, until)]
        while stretches:
            start, end = stretches.pop()
            if start >= end:
                continue
            query = {"from": _rfc3339(start), "to": _rfc3339(end), "limit": str(_PAGE)}
            items = await self._get(self.url, query)
            if len(items) < _PAGE:
                for item in items:
                    yield item
                continue
            if end - start == 1:
                raise CollectorError(
                    f"{self.url}: lists only {_PAGE} events of the second {_rfc3339(start)}, and there "
                    "are more; use --api v2"
                )
            middle = (start + end) // 2
            stretches += [(middle, end), (start, middle)]

    async def _pages_v2(self, since: int, until: int) -> AsyncIterator[Any]:
        url = self.url.replace("/api/v1/", "/api/v2/")
        wanted = {"time": {"$gte": _rfc3339(since), "$lt": _rfc3339(until)}}
        query = {"filter": json.dumps(wanted), "limit": str(_PAGE)}
        while True:
            page = await self._get(url, query)
            for item in page["items"]:
                yield item
            if not page.get("nextCursor"):
                return
            query["cursor"] = page["nextCursor"]

    async def _pages_v3(self, since: int, until: int) -> AsyncIterator[Any]:
        query = {
            "filter[time][gte]": _rfc3339(since),
            "filter[time][lt]": _rfc3339(until),
            "page[size]": str(_PAGE),
        }
        while True:
            page = await self._get(self.url, query)
            for item in page["data"]:
                yield item
            following = page["meta"]["page"].get("next")
            if not following:
                return
            query["page[after]"] = following

    async def _get(self, url: str, query: Mapping[str, str]) -> Any:
        where = f"{url}?{urlencode(query)}"
        answer = await self.client.request("GET", where, headers=self._headers, timeout=_TIMEOUT)
        if answer.status != 200:
            raise _odd_answer(url, answer)
        try:
            return msgspec.json.decode(answer.body)
        except msgspec.DecodeError as error:
            raise CollectorError(
                f"{url}: answered with something that is no JSON: {error}"
            ) from None


async def compare(sent: Iterable[bytes], listed: AsyncIterator[Fact]) -> Comparison:
    """Compare what was sent with what is listed, whatever the order of both."""
    made = Comparison()
    ours = {found.key: (found, content) for found, content in _facts(sent)}
    made.delivered = len(ours)
    seen: set[Key] = set()
    async for there in listed:
        made.listed += 1
        known = ours.get(there.key)
        if known is None:
            made.extra.append(there.key)
            continue
        seen.add(there.key)
        differing = known[0].differs(there)
        if differing:
            made.different[there.key] = differing
    made.missing = {key: content for key, (_, content) in ours.items() if key not in seen}
    return made


def fact_of(item: Any) -> Fact | None:
    """What is compared of an event as the destination lists it; None when it is none."""
    event = item.get("event", item) if isinstance(item, dict) else None
    return _fact(event) if isinstance(event, dict) else None


def sent_between(contents: Iterable[bytes], since: float, until: float) -> Iterator[bytes]:
    """Those of the events that were sent whose time is in [since, until)."""
    for found, content in _facts(contents):
        if found.at is not None and int(since) <= found.at < int(until):
            yield content


def _facts(contents: Iterable[bytes]) -> Iterator[tuple[Fact, bytes]]:
    for content in contents:
        try:
            found = fact_of(msgspec.json.decode(content))
        except (msgspec.DecodeError, RecursionError):
            continue  # no event: the destination cannot have listed it
        if found is not None:
            yield found, content


def _fact(event: dict[str, Any]) -> Fact | None:
    found_id, source = event.get("id"), event.get("source")
    if not isinstance(found_id, str) or not isinstance(source, str):
        return None
    return Fact(
        (source, found_id),
        str(event.get("type") or ""),
        str(event.get("subject") or ""),
        _seconds(event.get("time")),
        event.get("data"),
    )


def _seconds(text: Any) -> int | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() // 1)


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _odd_answer(url: str, answer: HttpResponse) -> CollectorError:
    told = answer.body[:500].decode("utf-8", "replace")
    return CollectorError(f"{url}: answered {answer.status}: {told}")
