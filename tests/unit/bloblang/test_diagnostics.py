"""Errors and warnings of the compiler: text, place, caret, advice."""

import pytest

from openmeter_collector.bloblang import MappingError, compile

SHORTHAND = (
    "line 2 char 1: expected the mapping to end here as the beginning is shorthand for "
    "`root = this.a`, but this shorthand form cannot be followed with more assignments"
)


def fault(text, name=""):
    with pytest.raises(MappingError) as caught:
        compile(text, name=name)
    return caught.value


def test_a_fault_has_a_line_a_caret_and_what_was_expected():
    error = fault("root.a = 1\nroot.b = this.c +", "orders.blobl")
    assert str(error) == "line 2 char 18: expected query"
    assert error.rendered() == (
        "orders.blobl: line 2 char 18: expected query\n"
        "  |\n"
        "2 | root.b = this.c +\n"
        "  |                  ^---"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root = [1 2]", "line 1 char 11: expected query"),
        ("root=1", "line 1 char 5: expected whitespace"),
        ("", "line 1 char 1: expected import, map, or assignment"),
        ('root = "a', "line 1 char 10: required: expected end quote"),
        ("root = 5 / 0", "line 1 char 8: number literal: attempted to divide by zero"),
        ("root = x -> x -> 1", "line 1 char 13: context label `x` would shadow a parent context"),
        ("map a {\n}\nmap a {\n}", "line 3 char 1: map name collision: a"),
        ("this.a\nroot = 1", SHORTHAND),
    ],
)  # fmt: skip
def test_texts_and_places_are_the_engines(text, message):
    assert str(fault(text)) == message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("root = this.a.uppercas()", "did you mean uppercase?"),
        ("root = uuid_v5()", "uuid_v5 is a method; call it as value.uuid_v5(...)"),
        ("root = this.a.now()", "now is a function; call it as now(...)"),
        ("root = this.a.slice(lo: 1, low: 2)", "did you mean low?"),
        ('root = this.a.geoip_city("x")', "geoip_city is left out of this collector"),
    ],
)
def test_advice_stands_below_the_error(text, hint):
    assert hint in fault(text).rendered()


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("root.a = 1\nroot = this", "this is replaced by the assignment in line 2"),
        ("let total = 1\nroot = $totl", "variable 'totl' is never set; did you mean $total?"),
        (
            "root = 5.uppercase()",
            "method uppercase always fails here: expected string value, got number (5)",
        ),
        ('root = meta("a")', "function meta is deprecated"),
    ],
)
def test_warnings(text, warning):
    (found,) = compile(text).warnings
    assert found.text == warning
    assert found.severity == "warning"


@pytest.mark.parametrize(
    "text",
    [
        "root.a = 1\nroot = if this.b { this }",
        "root.a = 1\nroot = root.a",
        "let a = 1\nroot = $a.uppercase().catch(1)",
        "root = this\nroot.a = 1",
    ],
)
def test_nothing_to_warn_about(text):
    assert compile(text).warnings == ()


def test_the_linters_form_quotes_what_was_found():
    assert fault("root = 1 2").lint() == "expected line break, got: 2"
    assert fault("root = nope()").lint() == "unrecognised function 'nope'"
