"""Durations are Go's, sizes are bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmeter_collector.values.units import (
    ByteSize,
    Duration,
    format_duration,
    parse_byte_size,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1h30m", 5_400_000_000_000),
        ("-1.5h", -5_400_000_000_000),
        (".5s", 500_000_000),
        ("1us", 1_000),
        ("1.5ns", 1),
    ],
)
def test_go_durations_are_read(text, nanoseconds):
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "1d", "1h 3m", "s", "1e3s", "５s", "300000h" * 20])  # noqa: RUF001
def test_what_go_refuses_is_refused_with_a_hint(text):
    with pytest.raises(ValueError, match=r"duration"):
        parse_duration(text)


@given(st.integers(-(2**62), 2**62))
def test_a_printed_duration_reads_back(nanoseconds):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (15_000_000_000, "15s"), (60_000_000_000, "1m0s"), (1_500, "1.5µs")],
)
def test_durations_print_as_go_prints_them(nanoseconds, text):
    assert format_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512KiB", 524288), ("1.5MB", 1_500_000), ("2 gib", 2**31)]
)
def test_sizes_are_read(text, size):
    assert parse_byte_size(text) == size


def test_typed_values_keep_their_text():
    assert Duration("1m30s") == 90.0
    assert Duration("1m30s").text == "1m30s"
    assert ByteSize("1KiB") == 1024
    with pytest.raises(ValueError, match="not a size"):
        ByteSize("many")
