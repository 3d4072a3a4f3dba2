"""`--set path=value` changes the document before it is decoded."""

import pytest

from openmeter_collector.config import overrides, tree
from openmeter_collector.config.report import Report


def applied(text, *changes):
    report = Report()
    made = overrides.apply(tree.parse(text), changes, report)
    return made.value(), [problem.friendly() for problem in report.problems]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ("a=2", {"a": 2, "l": [1, {"x": 1}]}),
        ("a=", {"a": None, "l": [1, {"x": 1}]}),
        ("b.c.d=x=y", {"a": 1, "l": [1, {"x": 1}], "b": {"c": {"d": "x=y"}}}),
        ("l.0=[3]", {"a": 1, "l": [[3], {"x": 1}]}),
        ("l.1.x=2", {"a": 1, "l": [1, {"x": 2}]}),
        ("l.-=2", {"a": 1, "l": [1, {"x": 1}, 2]}),
        ("l.2=2", {"a": 1, "l": [1, {"x": 1}, 2]}),
    ],
)
def test_a_value_is_set(change, result):
    assert applied("a: 1\nl: [1, {x: 1}]", change) == (result, [])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("a", "'a' is not path=value"),
        ("=1", "'' is not path=value"),
        ("a.b=1", "there is a value where 'b' is to be set"),
        ("l.7=1", "'7' is no place in a list of 1"),
        ("l.x=1", "'x' is no place in a list of 1"),
        ("a=[", "a: did not find expected"),
    ],
)
def test_what_cannot_be_set_is_told(change, fault):
    value, problems = applied("a: 1\nl: [1]", change)
    assert value == {"a": 1, "l": [1]}
    assert fault in problems[0]
