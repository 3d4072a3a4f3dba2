"""Windows as properties: whatever the schedule, the clock and the order of things, each moment is in one."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmeter_collector.values import windows
from openmeter_collector.values.schedule import parse_schedule
from openmeter_collector.values.windows import Ledger, Window, grid_of

SCHEDULES = [
    "15s",
    "@every 1m",
    "@every 100ms",
    "@every 7m",
    "0 * * * * *",
    "*/30 * * * * *",
    "*/7 * * * * *",
    "0 0 2 * * *",
    "TZ=Europe/Budapest 0 30 2 * * *",
    "TZ=America/New_York 0 */15 * * * *",
    "TZ=Australia/Lord_Howe 0 0 * * * *",
    "@hourly",
    "@daily",
    "0 0 0 1 * *",
    "0 0 9-17 * * MON-FRI",
    "0 0 0 29 2 *",
]
# Over the years in which those zones changed their clocks, changes included.
MOMENTS = st.integers(1_000_000_000_000, 1_999_999_999_000)
CHANGES = st.sampled_from(
    [
        int(datetime(2024, 3, 31, 1, tzinfo=UTC).timestamp() * 1000),
        int(datetime(2024, 10, 27, 1, tzinfo=UTC).timestamp() * 1000),
        int(datetime(2024, 11, 3, 6, tzinfo=UTC).timestamp() * 1000),
        int(datetime(2024, 10, 5, 15, 30, tzinfo=UTC).timestamp() * 1000),
        int(datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000),
    ]
)
NEAR_CHANGES = st.builds(lambda at, by: at + by, CHANGES, st.integers(-7_200_000, 7_200_000))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SCHEDULES), MOMENTS | NEAR_CHANGES)
def test_each_moment_is_in_exactly_one_window(text, moment):
    grid = grid_of(parse_schedule(text))
    start = grid.floor(moment)
    end = grid.after(moment)
    assert start <= moment < end
    assert grid.after(start) == end, "no edge inside"
    assert grid.floor(start) == start, "an edge is its own"
    assert grid.floor(end) == end, "the next window begins where this one ends"
    assert grid.floor(end - 1) == start


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCHEDULES[:12]), NEAR_CHANGES, st.integers(1, 30))
def test_windows_that_follow_each_other_tile(text, moment, count):
    grid = grid_of(parse_schedule(text))
    edges = [grid.floor(moment)]
    for _ in range(count):
        edges.append(grid.after(edges[-1]))
    assert edges == sorted(set(edges))
    for at in range(1, len(edges)):
        assert grid.floor((edges[at - 1] + edges[at]) // 2) == edges[at - 1]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["clock", "done", "fail", "lose", "refill", "reload", "expire", "other"]),
        st.integers(-200, 400),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_a_ledger_accounts_for_every_moment_once(steps):
    """Done, open or lost, and never two of them; done is only what was done."""
    grids = [grid_of(parse_schedule("@every 10s")), grid_of(parse_schedule("@every 7s"))]
    grid = grids[0]
    now = 1_700_000_000_000
    ledger = Ledger.begin(grid, now)
    done = set()
    for action, number in steps:
        if action == "clock":  # jumps back as well as on
            now += number * 1000
            before = ledger.upto
            ledger.advance(grid, now)
            assert ledger.upto >= before
        elif action in {"done", "fail", "lose"}:
            left = list(ledger.windows(grid))
            if not left:
                continue
            window = left[number % len(left)]
            if action == "done":
                ledger.done(window)
                moments = set(range(window.start, window.end, 1000))
                assert not moments & done, "a window was given twice"
                done |= moments
            elif action == "fail":
                ledger.fail(window, f"cause {number % 3}", ["part"] * (number % 2))
            else:
                ledger.lose(window, "gone")
        elif action == "refill":
            ledger.refill(ledger.begun, ledger.begun + abs(number) * 1000)
        elif action == "expire":
            ledger.expire(grid.floor(now - 100_000), "old")
        elif action == "reload":
            again = Ledger.decode(ledger.encode())
            assert again == ledger
            ledger = again
        else:
            grid = grids[number % 2]
    told = []
    for spans in (ledger.open, ledger.lost):
        for one, two in itertools.pairwise(spans):
            assert one.end <= two.start
        told.append({m for span in spans for m in range(span.start, span.end, 1000)})
    everything = set(range(ledger.begun, ledger.upto, 1000))
    assert not told[0] & told[1]
    assert not (told[0] | told[1]) & done
    assert told[0] | told[1] | done == everything


def test_a_ledger_is_bounded(monkeypatch):
    monkeypatch.setattr(windows, "MOST_SPANS", 50)
    grid = grid_of(parse_schedule("1s"))
    ledger = Ledger.begin(grid, 0)
    ledger.advance(grid, 150 * 1000)
    for at in range(0, 150, 2):
        ledger.fail(Window(at * 1000, (at + 1) * 1000), f"cause {at}")
    assert len(ledger.open) <= 50
    assert ledger.lost, "what is not kept is named as lost"
    for window in list(ledger.windows(grid)):
        ledger.lose(window, f"cause {window.start}")
    assert len(ledger.lost) <= 50
    assert not ledger.open
    assert sum(one.end - one.start for one in ledger.lost) == ledger.upto - ledger.begun


@pytest.mark.parametrize("text", ["50ms", "@every 1500us"])
def test_windows_too_short_to_keep_apart_are_refused(text):
    with pytest.raises(ValueError, match="whole milliseconds"):
        grid_of(parse_schedule(text))
