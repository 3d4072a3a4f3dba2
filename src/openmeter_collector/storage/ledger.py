"""The books: what became of every event, by source, type and UTC hour of receipt.

    received = delivered + dead + dropped + lost + what still waits

Each line is changed in the transaction that makes the fact true which it counts, so it balances after
any crash. An event counts where it was received: by the `source` and `type` it came with (both empty
when it was no CloudEvent then), in the hour in which it was stored.

What is counted beside the balance: `rejected` events were turned away at the door and never received;
`replayed` ones were dead, and were put back; `duplicates` were received again with an id that had been
seen, or had been dropped as such by a rule, `conflicts` the same with another content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import apsw
import msgspec

from openmeter_collector.errors import DuplicateRule
from openmeter_collector.message import Message

Names = tuple[str, str]
"""Source and type."""

Tally = Mapping[Names, int]
"""How many events of each source and type."""

Facts = Mapping[tuple[int, Names], int]
"""Events that are there, by hour of receipt and names."""

NO_NAMES: Final[Names] = ("", "")
OTHER: Final[Names] = ("(other)", "(other)")
"""Where events are counted once an hour has all the lines it may have."""

MOST_LINES: Final = 500
"""Lines an hour may have: sources are chosen by strangers."""

COLUMNS: Final = (
    "received",
    "rejected",
    "dropped",
    "delivered",
    "dead",
    "lost",
    "replayed",
    "duplicates",
    "conflicts",
)
HOUR_MS: Final = 3_600_000
_MOST_TEXT: Final = 256
_HOURS_KNOWN: Final = 256

TABLES: Final = f"""
CREATE TABLE ledger (
    hour INTEGER NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    {"".join(f"{name} INTEGER NOT NULL DEFAULT 0, " for name in COLUMNS)}
    changed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, source, type)
) WITHOUT ROWID;
CREATE TABLE ledger_rules (
    hour INTEGER NOT NULL,
    source TEXT NOT NULL,
    type TEXT NOT NULL,
    kind TEXT NOT NULL,
    rule TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (hour, source, type, kind, rule)
) WITHOUT ROWID;
"""

_ADD: Final = (
    f"INSERT INTO ledger (hour, source, type, {', '.join(COLUMNS)}, changed) "  # noqa: S608
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 4))}) ON CONFLICT (hour, source, type) DO UPDATE SET "
    f"{', '.join(f'{name} = {name} + excluded.{name}' for name in COLUMNS)}, "
    "changed = excluded.changed"
)
_ADD_RULE: Final = (
    "INSERT INTO ledger_rules (hour, source, type, kind, rule, events) VALUES (?,?,?,?,?,?) "
    "ON CONFLICT (hour, source, type, kind, rule) DO UPDATE SET events = events + excluded.events"
)
_FORGET: Final = (
    "DELETE FROM ledger WHERE hour < ? AND dead = 0 AND received = delivered + dropped + lost"
)
_FORGET_RULES: Final = (
    "DELETE FROM ledger_rules WHERE hour < ? AND NOT EXISTS (SELECT 1 FROM ledger l WHERE "
    "l.hour = ledger_rules.hour AND l.source = ledger_rules.source AND l.type = ledger_rules.type)"
)


class _Named(msgspec.Struct, gc=False):
    source: str = ""
    type: str = ""


_decode = msgspec.json.Decoder(_Named).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[str, str, int]]).decode


def names_of(content: bytes) -> Names:
    """The source and type an event is counted under. Never fails."""
    try:
        event = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NO_NAMES
    source, kind = event.source, event.type
    if len(source) > _MOST_TEXT or len(kind) > _MOST_TEXT:
        return source[:_MOST_TEXT], kind[:_MOST_TEXT]
    return source, kind


def tally_of(batch: Iterable[Message]) -> Tally:
    """Count a batch."""
    # Neighbours mostly have the same names: looked up once per run of them, not per event.
    tally: dict[Names, int] = {}
    last: Names = NO_NAMES
    run = 0
    for message in batch:
        names = names_of(message.content)
        if names == last:
            run += 1
            continue
        if run:
            tally[last] = tally.get(last, 0) + run
        last, run = names, 1
    if run:
        tally[last] = tally.get(last, 0) + run
    return tally


def pack_tally(tally: Tally) -> bytes:
    """A tally as it is stored beside its frame."""
    return _pack([(*names, count) for names, count in tally.items()])


def unpack_tally(packed: bytes) -> Tally:
    """The reverse of `pack_tally`."""
    return {(source, kind): count for source, kind, count in _unpack(packed)}


def hour_of(unix_ms: int) -> int:
    """The hour, counted from 1970."""
    return unix_ms // HOUR_MS


@dataclass(slots=True)
class Changes:
    """What a transaction adds to the books."""

    lines: dict[tuple[int, Names], dict[str, int]] = field(default_factory=dict)
    rules: dict[tuple[int, Names, str, str], int] = field(default_factory=dict)

    def add(self, hour: int, column: str, tally: Tally, rule: str = "") -> None:
        """Add a tally to a column, and under the rule that is the reason.

        What is dropped by a `DuplicateRule` counts among the duplicates as well, beside the balance.
        """
        if isinstance(rule, DuplicateRule):
            self.add(hour, "duplicates", tally)
            rule = str(rule)
        for names, count in tally.items():
            line = self.lines.get((hour, names))
            if line is None:
                line = self.lines[hour, names] = {}
            line[column] = line.get(column, 0) + count
            if rule:
                key = (hour, names, column, rule)
                self.rules[key] = self.rules.get(key, 0) + count


class Bookkeeper:
    """Writes changes, and keeps the number of lines an hour may have. Belongs to one connection."""

    def __init__(self) -> None:
        self._known: dict[int, set[Names]] = {}
        self._forgot_hour = 0

    def forget(self) -> None:
        """What was written may not be there: the transaction failed."""
        self._known.clear()

    def write(self, connection: apsw.Connection, changes: Changes, number: int) -> None:
        """Write them in the transaction that is open.

        Args:
            number: of the transaction; `is_written` asks for it.
        """
        lines: dict[tuple[int, Names], dict[str, int]] = {}
        for (hour, names), line in changes.lines.items():
            at = (hour, self._line(connection, hour, names))
            total = lines.setdefault(at, {})
            for column, count in line.items():
                total[column] = total.get(column, 0) + count
        connection.executemany(
            _ADD,
            [
                (hour, *names, *(line.get(column, 0) for column in COLUMNS), number)
                for (hour, names), line in lines.items()
            ],
        )
        if changes.rules:
            connection.executemany(
                _ADD_RULE,
                [
                    (hour, *self._line(connection, hour, names), kind, rule, count)
                    for (hour, names, kind, rule), count in changes.rules.items()
                ],
            )

    def _line(self, connection: apsw.Connection, hour: int, names: Names) -> Names:
        """Where an event is counted: by its names, if the hour has or may have such a line.

        Once an hour is full no line is added to it, so the answer for one event stays the same.
        """
        known = self._known.get(hour)
        if known is None:
            if len(self._known) >= _HOURS_KNOWN:
                self._known.clear()
            rows = connection.execute("SELECT source, type FROM ledger WHERE hour = ?", (hour,))
            known = self._known[hour] = {(str(source), str(kind)) for source, kind in rows}
        if names in known:
            return names
        if len(known) >= MOST_LINES:
            return OTHER
        known.add(names)
        return names

    def forget_before(self, connection: apsw.Connection, hour: int) -> None:
        """Remove settled lines of older hours, in the transaction that is open."""
        if hour > self._forgot_hour:
            self._forgot_hour = hour
            connection.execute(_FORGET, (hour,))
            connection.execute(_FORGET_RULES, (hour,))
            self._known.clear()


def is_written(connection: apsw.Connection, changes: Changes, number: int) -> bool:
    """Whether the transaction of this number is in the file."""
    for hour in {hour for hour, _ in changes.lines}:
        row = connection.execute(
            "SELECT 1 FROM ledger WHERE hour = ? AND changed = ? LIMIT 1", (hour, number)
        ).get
        if row is not None:
            return True
    return False


# ---- reading ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Line:
    """One line of the books.

    Attributes:
        waiting: events that are in the file and wait for delivery, counted there.
        letters: dead letters that are in the file, counted there.
        dropped_by, rejected_for: the rules, with how many events each.
    """

    hour: int
    source: str
    type: str
    counts: dict[str, int]
    waiting: int = 0
    letters: int = 0
    dropped_by: dict[str, int] = field(default_factory=dict)
    rejected_for: dict[str, int] = field(default_factory=dict)

    @property
    def balance(self) -> int:
        """0 when the books are right: received less all that can have become of it."""
        out = sum(self.counts[name] for name in ("delivered", "dropped", "lost"))
        return self.counts["received"] - out - self.letters - self.waiting


def read_lines(
    connection: apsw.Connection, waiting: Facts, letters: Facts, since: int = 0
) -> list[Line]:
    """All lines from an hour on, in order.

    Args:
        waiting: what waits, counted in the frames themselves; see `audit`.
        letters: the dead letters that there are.
    """
    lines: dict[tuple[int, Names], Line] = {}
    query = f"SELECT hour, source, type, {', '.join(COLUMNS)} FROM ledger WHERE hour >= ?"  # noqa: S608
    for hour, source, kind, *counts in connection.execute(query, (since,)):
        counted = dict(zip(COLUMNS, map(int, counts), strict=True))
        lines[int(hour), (source, kind)] = Line(int(hour), source, kind, counted)
    for (hour, names), count in waiting.items():
        if hour >= since:
            _line_of(lines, hour, names).waiting += count
    for (hour, names), count in letters.items():
        if hour >= since:
            _line_of(lines, hour, names).letters += count
    rules = "SELECT hour, source, type, kind, rule, events FROM ledger_rules WHERE hour >= ?"
    for hour, source, kind, what, rule, events in connection.execute(rules, (since,)):
        line = lines.get((int(hour), (source, kind)))
        if line is not None:
            into = line.dropped_by if what == "dropped" else line.rejected_for
            into[rule] = int(events)
    return [lines[key] for key in sorted(lines)]


def _line_of(lines: dict[tuple[int, Names], Line], hour: int, names: Names) -> Line:
    line = lines.get((hour, names)) or lines.get((hour, OTHER))
    if line is None:
        line = lines[hour, names] = Line(hour, *names, dict.fromkeys(COLUMNS, 0))
    return line


def total(lines: Sequence[Line]) -> Line:
    """All lines as one."""
    summed = Line(0, "", "", dict.fromkeys(COLUMNS, 0))
    for line in lines:
        summed.waiting += line.waiting
        summed.letters += line.letters
        for name in COLUMNS:
            summed.counts[name] += line.counts[name]
        for into, found in (
            (summed.dropped_by, line.dropped_by),
            (summed.rejected_for, line.rejected_for),
        ):
            for rule, count in found.items():
                into[rule] = into.get(rule, 0) + count
    return summed
