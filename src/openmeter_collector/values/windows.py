"""Time cut into windows, and the book of which of them are done.

A grid cuts time at aligned edges: multiples of the interval since 1970 (UTC), or the moments of a cron
expression. A window is what lies between two edges, start included, end not. Windows tile: each moment
is in exactly one, whatever the clock or its changes do.

A `Ledger` knows of every window since it was begun: done, open (still to be fetched), or lost (the
source cannot give it any more, and why). It is a value: pure, bounded, written as JSON.

Moments are whole Unix milliseconds, so that an edge is the same number wherever it is worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from openmeter_collector.values.schedule import Cron, Every, Schedule

SHORTEST_MS: Final = 100
MOST_SPANS: Final = 5_000
"""Open spans, and lost ones, that a ledger keeps. Beyond it the oldest are given up, or joined."""
MOST_REST: Final = 1_000
"""Parts of one window that are remembered by name; with more, the window is fetched as a whole."""
_MOST_CAUSE: Final = 200
_YEARS: Final = 1 << 29  # seconds; longer than a cron expression may be silent
_MARK: Final = "windows"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """From `start` (included) to `end` (not), Unix milliseconds."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start) / 1000


class Grid(Protocol):
    """Where time is cut."""

    def floor(self, moment: int) -> int:
        """The last edge that is not after a moment."""

    def after(self, moment: int) -> int:
        """The first edge after a moment."""


@dataclass(frozen=True, slots=True)
class EveryGrid:
    """Edges at the multiples of a length in milliseconds."""

    step: int

    def floor(self, moment: int) -> int:
        return moment - moment % self.step

    def after(self, moment: int) -> int:
        return self.floor(moment) + self.step


@dataclass(frozen=True, slots=True)
class CronGrid:
    """Edges at the moments of a cron expression."""

    cron: Cron

    def after(self, moment: int) -> int:
        return self._after(moment // 1000) * 1000

    def floor(self, moment: int) -> int:
        # The expression can only be asked for what comes next, so the last second from which the
        # next moment is not after ours is looked for: doubling steps back, then halving.
        second = moment // 1000
        step = 1
        while self._after(second - step) > second:
            step *= 2
            if step > _YEARS:
                raise ValueError("the schedule had no time in the years before")
        low, high = second - step, second
        while high - low > 1:
            middle = (low + high) // 2
            if self._after(middle) > second:
                high = middle
            else:
                low = middle
        return self._after(low) * 1000

    def _after(self, second: int) -> int:
        return int(self.cron.after(second))


def grid_of(schedule: Schedule) -> Grid:
    """The windows of a schedule.

    Raises:
        ValueError: the interval is too short, or no whole number of milliseconds.
    """
    if isinstance(schedule, Every):
        step = round(schedule.every * 1000)
        if step < SHORTEST_MS or abs(step - schedule.every * 1000) > 1e-6 * step:
            raise ValueError(
                f"windows of {schedule.every:g}s cannot be kept apart; use whole milliseconds, "
                f"{SHORTEST_MS} at least"
            )
        return EveryGrid(step)
    assert isinstance(schedule, Cron)
    return CronGrid(schedule)


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring windows that share a fate.

    Attributes:
        cause: why they are not done; empty when they were not tried yet.
        rest: parts of the one window that are still to be fetched; empty for all of it.
    """

    start: int
    end: int
    cause: str = ""
    rest: tuple[str, ...] = ()

    def joins(self, other: Span) -> bool:
        """Whether it and the one behind it can be told as one."""
        same = self.cause == other.cause and not self.rest and not other.rest
        return self.end == other.start and same


@dataclass(slots=True)
class Ledger:
    """The book of one source.

    Attributes:
        begun: windows before it are nobody's business.
        upto: each window between `begun` and here is done, open or lost.
        open: still to be fetched, in order, apart from each other.
        lost: cannot be fetched any more, in order, apart from each other.
    """

    begun: int
    upto: int
    open: list[Span] = field(default_factory=list)
    lost: list[Span] = field(default_factory=list)

    @classmethod
    def begin(cls, grid: Grid, now: int) -> Ledger:
        """A new book: its first window is the one that `now` is in."""
        edge = grid.floor(now)
        return cls(edge, edge)

    def advance(self, grid: Grid, now: int) -> None:
        """Open the windows that have ended by `now`. A clock that went back opens none."""
        edge = grid.floor(now)
        if edge > self.upto:
            self.open = _with(self.open, Span(self.upto, edge))
            self.upto = edge

    def expire(self, before: int, cause: str) -> list[Span]:
        """Give up what is open before an edge; returns what was given up."""
        if not self.open or self.open[0].start >= before:
            return []
        _, given_up = _cut(self.open, self.begun, before)
        for span in given_up:
            told = f"{cause}; before: {span.cause}" if span.cause else cause
            self.lose(Window(span.start, span.end), told)
        return given_up

    def windows(self, grid: Grid) -> Iterator[Window]:
        """The open windows, oldest first. Also right when the schedule was another one once."""
        for span in self.open:
            start = span.start
            while start < span.end:
                end = min(grid.after(start), span.end)
                yield Window(start, end)
                start = end

    def newest(self, grid: Grid) -> Window | None:
        """The window that ended last, if it is open."""
        if not self.open or self.open[-1].end != self.upto:
            return None
        span = self.open[-1]
        return Window(max(grid.floor(span.end - 1), span.start), span.end)

    def rest(self, window: Window) -> tuple[str, ...]:
        """Which parts of an open window are left; empty for all of it."""
        for span in self.open:
            if span.start <= window.start < span.end:
                return span.rest if span.end == window.end else ()
        return ()

    def done(self, window: Window) -> None:
        """The events of a window are safe."""
        self.open, _ = _cut(self.open, window.start, window.end)

    def fail(self, window: Window, cause: str, rest: Sequence[str] = ()) -> None:
        """An open window could not be fetched, or only in part; it stays open."""
        kept, cut = _cut(self.open, window.start, window.end)
        if cut:
            parts = tuple(rest) if len(rest) <= MOST_REST else ()
            self.open = _with(kept, Span(window.start, window.end, cause[:_MOST_CAUSE], parts))
            while len(self.open) > MOST_SPANS:
                first = self.open[0]
                self.lose(Window(first.start, first.end), "too many gaps are open")

    def lose(self, window: Window, cause: str) -> None:
        """An open window cannot be fetched any more."""
        self.open, cut = _cut(self.open, window.start, window.end)
        for span in cut:
            self.lost = _with(self.lost, Span(span.start, span.end, cause[:_MOST_CAUSE]))
        while len(self.lost) > MOST_SPANS:
            first, second = self.lost[:2]
            # Told as one, what lies between them included: rather too much named than too little.
            self.lost[:2] = [Span(first.start, second.end, "several causes")]

    def refill(self, start: int, end: int) -> int:
        """Open again what is lost between two moments; returns how many spans that were."""
        self.lost, cut = _cut(self.lost, start, end)
        for span in cut:
            self.open = _with(self.open, Span(span.start, span.end))
        return len(cut)

    def accept(self, start: int, end: int) -> int:
        """A person says that lost windows between two moments are known and settled otherwise."""
        self.lost, cut = _cut(self.lost, start, end)
        return len(cut)

    def copy(self) -> Ledger:
        """Another one that says the same."""
        return replace(self, open=list(self.open), lost=list(self.lost))

    def encode(self) -> bytes:
        """As it is kept."""
        return orjson.dumps(
            {
                "kind": _MARK,
                "begun": self.begun,
                "upto": self.upto,
                "open": [_row(span) for span in self.open],
                "lost": [_row(span) for span in self.lost],
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> Ledger:
        """Read what `encode` wrote.

        Raises:
            ValueError: it is something else.
        """
        made = orjson.loads(value)
        if not isinstance(made, dict) or made.get("kind") != _MARK:
            raise ValueError("it is no ledger of windows")
        try:
            return cls(
                int(made["begun"]),
                int(made["upto"]),
                [_span(row) for row in made["open"]],
                [_span(row) for row in made["lost"]],
            )
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError("it is a damaged ledger of windows") from error


def moment_text(moment: int) -> str:
    """RFC 3339 in UTC; with milliseconds only if there are some."""
    at = datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    rest = moment % 1000
    return f"{at}.{rest:03d}Z" if rest else f"{at}Z"


def moment_of(text: str) -> int:
    """Read RFC 3339.

    Raises:
        ValueError: it is something else, or has no offset from UTC.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; end it with Z")
    return round(at.timestamp() * 1000)


def _row(span: Span) -> list[Any]:
    row: list[Any] = [span.start, span.end, span.cause]
    return [*row, list(span.rest)] if span.rest else row


def _span(row: list[Any]) -> Span:
    rest = tuple(str(one) for one in row[3]) if len(row) > 3 else ()
    return Span(int(row[0]), int(row[1]), str(row[2]), rest)


def _cut(spans: Sequence[Span], start: int, end: int) -> tuple[list[Span], list[Span]]:
    """What is left without the moments from `start` to `end`, and what was in there."""
    left: list[Span] = []
    cut: list[Span] = []
    for span in spans:
        low, high = max(span.start, start), min(span.end, end)
        if low >= high:
            left.append(span)
            continue
        # Parts of a window have no meaning for a piece of it.
        if span.start < low:
            left.append(replace(span, end=low, rest=()))
        cut.append(span if (low, high) == (span.start, span.end) else Span(low, high, span.cause))
        if high < span.end:
            left.append(replace(span, start=high, rest=()))
    return left, cut


def _with(spans: Sequence[Span], added: Span) -> list[Span]:
    """Put one in its place; what it covers must be free."""
    made: list[Span] = []
    for span in sorted([*spans, added], key=lambda one: one.start):
        if made and made[-1].joins(span):
            made[-1] = replace(made[-1], end=span.end)
        else:
            made.append(span)
    return made
