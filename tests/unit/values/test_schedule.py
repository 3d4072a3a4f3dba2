"""When schedules happen."""

from datetime import UTC, datetime

import pytest

from openmeter_collector.values.schedule import parse_schedule


def times(text, start, count):
    schedule = parse_schedule(text)
    moment = datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()
    made = []
    for _ in range(count):
        moment = schedule.after(moment)
        made.append(datetime.fromtimestamp(moment, UTC).strftime("%m-%d %H:%M:%S"))
    return made


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("*/15 * * * *", "2024-01-01 00:01:00", ["01-01 00:15:00", "01-01 00:30:00"]),
        ("*/30 * * * * *", "2024-01-01 00:00:10", ["01-01 00:00:30", "01-01 00:01:00"]),
        ("0,30 */2 * * * *", "2024-01-01 00:00:10", ["01-01 00:00:30", "01-01 00:02:00"]),
        ("@hourly", "2024-01-01 00:00:00", ["01-01 01:00:00", "01-01 02:00:00"]),
        ("@every 90s", "2024-01-01 00:00:00", ["01-01 00:01:30", "01-01 00:03:00"]),
        ("0 9 * * mon-fri", "2024-01-05 10:00:00", ["01-08 09:00:00", "01-09 09:00:00"]),
        ("0 0 1 * 1", "2024-01-29 01:00:00", ["02-01 00:00:00", "02-05 00:00:00"]),
        ("0 0 29 feb *", "2024-03-01 00:00:00", ["02-29 00:00:00"]),
        ("TZ=Europe/Budapest 0 12 * * *", "2024-07-01 00:00:00", ["07-01 10:00:00"]),
        # 02:30 does not exist on the day the clocks go forward, and exists twice in October.
        ("TZ=Europe/Budapest 30 2 * * *", "2024-03-30 12:00:00", ["04-01 00:30:00"]),
        (
            "TZ=Europe/Budapest 30 2 * * *",
            "2024-10-26 12:00:00",
            ["10-27 00:30:00", "10-28 01:30:00"],
        ),
        ("0 0 * * 7", "2024-01-01 00:00:00", ["01-07 00:00:00"]),
    ],
)
def test_the_next_times(text, start, expected):
    assert times(text, start, len(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["60 * * * *", "* * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", "TZ=Nowhere/X * * * * *",
     "0 0 30 2 *", "@every 0s", "@sometimes", "1 hour"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ValueError):
        parse_schedule(text)


def test_the_empty_text_is_no_schedule():
    assert parse_schedule("") is None
