import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmeter_collector.components.sql.changes import Shown
from openmeter_collector.components.sql.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Column,
    Commit,
    Relation,
    Truncate,
    lsn_of,
    lsn_text,
    parse,
)


def row(*values):
    made = struct.pack(">h", len(values))
    for value in values:
        if value is None:
            made += b"n"
        elif value is UNCHANGED:
            made += b"u"
        else:
            made += b"t" + struct.pack(">i", len(value)) + value
    return made


MESSAGES = [
    (b"B" + struct.pack(">qqI", 2**40, 5, 7), Begin(2**40, 5, 7)),
    (b"C" + struct.pack(">bqqq", 0, 10, 20, 5), Commit(10, 20)),
    (
        b"R" + struct.pack(">I", 9) + b"public\0orders\0d" + struct.pack(">h", 2)
        + b"\x01id\0" + struct.pack(">Ii", 20, -1) + b"\x00a\0" + struct.pack(">Ii", 25, -1),
        Relation(9, "public", "orders", (Column("id", 20, True), Column("a", 25, False))),
    ),
    (b"I" + struct.pack(">I", 9) + b"N" + row(b"1", None), Change("insert", 9, (b"1", None), None)),
    (
        b"U" + struct.pack(">I", 9) + b"N" + row(b"1", UNCHANGED),
        Change("update", 9, (b"1", UNCHANGED), None),
    ),
    (
        b"U" + struct.pack(">I", 9) + b"K" + row(b"0", None) + b"N" + row(b"1", b""),
        Change("update", 9, (b"1", b""), (b"0", None)),
    ),
    (b"D" + struct.pack(">I", 9) + b"O" + row(b"1", b"x"), Change("delete", 9, None, (b"1", b"x"))),
    (b"T" + struct.pack(">ibII", 2, 0, 9, 10), Truncate((9, 10))),
    (b"O" + struct.pack(">q", 1) + b"name\0", None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), MESSAGES)
def test_a_message_says_what_it_says(data, expected):
    assert parse(data) == expected


@given(st.sampled_from([data for data, event in MESSAGES if event is not None]), st.data())
def test_what_is_cut_off_is_told_or_never_longer(data, chance):
    cut = chance.draw(st.integers(1, len(data) - 1))
    with contextlib.suppress(ValueError):
        parse(data[:cut])


def test_a_kind_that_is_not_known_is_an_error():
    with pytest.raises(ValueError, match="kind 'z'"):
        parse(b"z")


@given(st.integers(0, 2**64 - 1))
def test_positions_are_written_as_the_server_does(lsn):
    assert lsn_of(lsn_text(lsn)) == lsn
    assert lsn_text(0x16B374D848) == "16/B374D848"


@pytest.mark.parametrize(
    ("snapshot", "xid", "has"),
    [
        ("5:9:6,7", 4, True),
        ("5:9:6,7", 5, True),
        ("5:9:6,7", 6, False),
        ("5:9:6,7", 9, False),
        # The numbers in the log are the lower 32 bits.
        ("4294967295:4294967298:4294967297", 4294967295, True),
        ("4294967295:4294967298:4294967297", 0, True),
        ("4294967295:4294967298:4294967297", 1, False),
        ("4294967295:4294967298:4294967297", 2, False),
    ],
)
def test_a_snapshot_shows_what_had_ended_before_it(snapshot, xid, has):
    assert Shown(snapshot).has(xid) is has
