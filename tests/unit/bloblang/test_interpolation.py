"""Fields with expressions in them."""

import pytest

from openmeter_collector.bloblang import (
    MappingError,
    MappingFailed,
    SimpleDocument,
    compile_interpolated,
)


def text(field, given="{}", **metadata):
    return compile_interpolated(field).text([SimpleDocument(given.encode(), metadata)], 0)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("plain $text ${c} }", "plain $text ${c} }"),
        ("${! this.a }-${!this.b}", "5-null"),
        ("a ${{! this.a }} b", "a ${! this.a } b"),
        ('${! @k | "none" }', "none"),
        ("${! deleted() }", "null"),
        ("${! this.a * 200000.0 }", "1e+06"),
        ('${! "}" }', "}"),
    ],
)
def test_expressions_are_filled_in(field, expected):
    assert text(field, '{"a":5}') == expected


def test_a_field_without_expressions_is_static():
    field = compile_interpolated("a ${{! x }}")
    assert field.is_static
    assert field.static == "a ${! x }"
    assert not compile_interpolated("${! 1 }").is_static


def test_a_lone_expression_keeps_its_bytes():
    message = [SimpleDocument(b"\xff\xfe")]
    assert compile_interpolated("${! content() }").bytes(message, 0) == b"\xff\xfe"


def test_there_are_no_variables_and_no_root():
    with pytest.raises(MappingFailed, match="variables were undefined"):
        text("${! $x }")
    with pytest.raises(MappingFailed, match="unable to reference `root` from this context"):
        text("${! root.a }")


def test_text_that_is_no_document():
    with pytest.raises(MappingFailed) as caught:
        text("${! this.x }", "plain")
    assert str(caught.value) == "context was undefined, unable to reference `x`"
    assert text("${! content() }", "plain") == "plain"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("${! this.v\n}", "line 1 char 11: required: expected end of expression"),
        ("${! }", "line 1 char 5: required: expected query"),
        ("${{! x", "line 1 char 5: required: expected end of escaped expression"),
    ],
)
def test_faults_have_a_place(field, message):
    with pytest.raises(MappingError) as caught:
        compile_interpolated(field)
    assert str(caught.value) == message
