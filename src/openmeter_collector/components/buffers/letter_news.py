"""Says in the log that events became dead letters: at once, then once a minute at most.

A refusing destination can make thousands of them a second, so a line counts all since the last one and
gives the first reason. What an event holds is not for logs: the destination's own words and whatever
else of the reason stands in the event are left out; `dlq` shows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson

from openmeter_collector.api import DeadLetter, Env
from openmeter_collector.storage.dead_letters import BuriedLetter

_QUIET: Final = 60.0
_MOST_CHARACTERS: Final = 200
_MOST_VALUES: Final = 1_000
_MOST_LOOKED_AT: Final = 256 << 10
_SHORTEST: Final = 3
"""Shorter values give nothing away, and stand in words by chance."""

Heard = Callable[[Sequence[BuriedLetter]], None]


@asynccontextmanager
async def letter_news(env: Env) -> AsyncIterator[Heard]:
    """What is to be told of letters that were filed. What is unsaid at the end is said then."""
    news = _News(env)
    task = asyncio.create_task(news.run(), name="letter-news")
    try:
        yield news.heard
    finally:
        task.cancel()
        await asyncio.wait({task})
        news.say()


class _News:
    def __init__(self, env: Env) -> None:
        self._env = env
        self._count = 0
        self._reason = ""
        self._said = asyncio.Event()
        """A line was written less than a minute ago."""

    def heard(self, letters: Sequence[BuriedLetter]) -> None:
        if not letters:
            return
        if not self._count:
            self._reason = reason_for_logs(letters[0])
        self._count += len(letters)
        if not self._said.is_set():
            self.say()

    async def run(self) -> None:
        while True:
            await self._said.wait()
            await self._env.sleep(_QUIET)
            self._said.clear()
            self.say()

    def say(self) -> None:
        if not self._count:
            return
        self._env.log.warning(
            "events were refused for good and are kept as dead letters; see `openmeter-collector dlq`",
            events=self._count,
            first_reason=self._reason,
        )
        self._count = 0
        self._said.set()


def reason_for_logs(buried: BuriedLetter) -> str:
    """Why, without what the destination answered and without values of the event."""
    letter: DeadLetter = buried.letter
    reason = letter.reason
    if letter.response:
        reason = reason.replace(letter.response, "").rstrip(": ")
    contents = (letter.message.content, buried.stored.content)
    values = {value for one in contents for value in _values(one)}
    for value in sorted(values, key=len, reverse=True):
        reason = reason.replace(value, "…")
    return reason.partition("\n")[0][:_MOST_CHARACTERS]


def _values(content: bytes) -> Iterator[str]:
    """Texts and numbers that an event holds; the whole of it when it is no JSON."""
    whole = content[:_MOST_LOOKED_AT]
    try:
        left: list[Any] = [orjson.loads(whole)]
    except orjson.JSONDecodeError:
        left = [whole.decode("utf-8", "replace")]
    found = 0
    while left and found < _MOST_VALUES:
        one = left.pop()
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
        elif len(text := str(one)) >= _SHORTEST and not isinstance(one, bool | None):
            found += 1
            yield text
