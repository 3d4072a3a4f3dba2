import pytest

from openmeter_collector.components.sql.position import SeenMarks, name_of
from openmeter_collector.components.sql.values import as_text, number, rfc3339
from openmeter_collector.values import json


def test_what_was_seen_can_be_read_when_it_is_as_old_as_the_lag():
    seen = SeenMarks(30)
    assert seen.old_enough(0) is None
    seen.add(0, 10)
    assert (seen.old_enough(29), seen.wait(20)) == (None, 10)
    seen.add(20, 15)
    assert seen.old_enough(30) == 10
    assert seen.old_enough(49) == 10
    assert seen.old_enough(50) == 15
    assert seen.old_enough(500) == 15


def test_an_empty_table_has_no_greatest_value():
    seen = SeenMarks(30)
    seen.add(0, None)
    assert (seen.old_enough(100), seen.wait(0)) == (None, 0)


def test_a_column_is_found_by_its_name_in_the_result():
    assert [name_of(one) for one in ("id", "o.id", 'o."Id"', "`o`.`id`")] == [
        "id",
        "id",
        "Id",
        "id",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01 10:00:00", "2026-01-01T10:00:00Z"),
        ("2026-01-01 10:00:00.120000", "2026-01-01T10:00:00.12Z"),
        ("2026-01-01 10:00:00.000", "2026-01-01T10:00:00Z"),
        ("2026-01-01", "2026-01-01T00:00:00Z"),
        ("infinity", "infinity"),
        ("0044-03-15 10:00:00 BC", "0044-03-15 10:00:00 BC"),
        ("", ""),
    ],
)
def test_times_are_rfc_3339(text, expected):
    assert rfc3339(text) == expected


def test_numbers_keep_their_digits():
    assert json.dumps(number("1.10")) == b"1.10"
    assert (
        json.dumps(number("123456789012345678901234567890.5"))
        == b"123456789012345678901234567890.5"
    )
    assert number("NaN") == "NaN"


def test_arguments_as_text():
    given = [None, True, 1, 2.0, 1.5, 2**70, "a", b"a", {"a": [1]}, json.loads(b"1.10")]
    assert [as_text(one) for one in given] == [
        None, "true", "1", "2", "1.5", str(2**70), "a", "a", '{"a":[1]}', "1.10",
    ]  # fmt: skip
