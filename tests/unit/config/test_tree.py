"""YAML becomes a tree with places; what is dangerous or ambiguous is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmeter_collector.config import tree
from openmeter_collector.config.tree import BadYaml, Place, parse


def value(text):
    return parse(text).value()


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("1", 1),
        ("-0x1f", -31),
        ("0o17", 15),
        ("017", 15),
        ("08", 8),
        ("1_000", 1000),
        ("0b101", 5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("true", True),
        ("yes", "yes"),
        ("~", None),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("1.2.3", "1.2.3"),
        ("9" * 6000, "9" * 6000),
    ],
)
def test_bare_words(word, meaning):
    found = value(f"a: {word}")["a"]
    assert (found, type(found)) == (meaning, type(meaning))


def test_everything_knows_its_place():
    root = parse("a:\n  - b: |\n      x\n", "f.yaml")
    item = root.get("a").items[0]
    assert root.entries["a"].place == Place("f.yaml", 1, 1)
    assert item.entries["b"].place == Place("f.yaml", 2, 5)
    assert (item.get("b").place.col, item.get("b").style) == (8, "|")


def test_anchors_and_merges():
    text = """
x: &x {a: 1, b: 2}
y: {<<: *x, b: 3}
z: {c: 4, <<: [*x, {a: 9, d: 5}]}
w: *x
"""
    found = value(text)
    assert found["y"] == {"b": 3, "a": 1}
    assert found["z"] == {"c": 4, "a": 1, "b": 2, "d": 5}
    assert found["w"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' is given twice, first in line 1"),
        ("a: *nope", 1, "unknown anchor 'nope'"),
        ("a: &a [*a]", 1, "unknown anchor 'a'"),
        ("a: {<<: 1}", 1, "merge key"),
        ("? [1]\n: 2", 1, "a key that is a list"),
        ("a:\n\tb: 1", 2, "cannot start any token"),
        ("a: [1", 2, "did not find expected ',' or ']'"),
        ("a: \x01", 1, "control characters"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text, line, fault):
    with pytest.raises(BadYaml) as caught:
        parse(text)
    assert fault in caught.value.text
    assert caught.value.place.line in {line, 1}


def test_depth_is_bounded():
    assert parse("[" * tree.MAX_DEPTH + "]" * tree.MAX_DEPTH) is not None
    with pytest.raises(BadYaml, match="nested more than"):
        parse("[" * 5000 + "]" * 5000)


def test_aliases_cannot_multiply_without_bound():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(BadYaml, match="aliases expanded"):
        parse("\n".join(lines))


def test_only_the_first_document_is_read_and_the_second_is_told():
    told = []
    assert parse("a: 1\n---\nb: [", more=told.append).value() == {"a": 1}
    assert [place.line for place in told] == [2]
    assert parse("") is None


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        made = parse(text)
    except BadYaml:
        return
    assert made is None or isinstance(made, tree.Scalar | tree.Sequence | tree.Mapping)
