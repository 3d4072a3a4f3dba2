"""A class with a decorator is a typed config and says what it is."""

import dataclasses
from typing import Any, Literal

import pytest

from kit.config_parts import Catch, Source, Tls
from openmeter_collector.api import (
    BatchPolicy,
    Duration,
    Interpolated,
    OutputNode,
    field,
    processor,
    section,
)
from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import attribute_of, fields_of


def test_a_spec_is_read_off_the_class():
    spec = Source.__spec__
    assert (spec.kind, spec.name, spec.cls, spec.stability) == ("input", "source", Source, "stable")
    assert spec.summary == "Read from somewhere."
    assert spec.description == "Read from somewhere. In pieces.\n\nLonger text."
    assert list(spec.fields)[:3] == ["url", "every", "limit"]
    assert Catch.__spec__.value == "processors"


def test_a_component_is_frozen_and_made_by_keywords():
    made = Source(url="http://x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.url = "y"
    with pytest.raises(TypeError):
        Source("http://x")
    with pytest.raises(TypeError, match="url"):
        Source()
    assert made == Source(url="http://x")
    assert repr(made) == "<Source>"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("url", t.Scalar("url")),
        ("every", t.Scalar("duration")),
        ("limit", t.Scalar("byte_size")),
        ("mode", t.Choice(("fast", "slow"))),
        ("names", t.ListOf(t.Scalar("string"))),
        ("pair", t.ListOf(t.Scalar("int"), frozen=True)),
        ("headers", t.MapOf(t.Scalar("interpolated"))),
        ("tls", t.SectionOf(Tls)),
        ("token", t.Optional(t.Scalar("string"))),
        ("raw", t.AnyValue()),
        ("from", t.Scalar("string")),
    ],
)
def test_annotations_become_types(name, kind):
    assert fields_of(Source)[name].type == kind


def test_children_are_told_by_their_kind():
    assert t.type_of(OutputNode) == t.Child("output")
    assert t.type_of(OutputNode | None) == t.Optional(t.Child("output"))


def test_a_word_that_python_keeps_has_an_underscore_in_python_only():
    assert fields_of(Source)["from"].name == "from"
    assert attribute_of(Source, "from") == "from_"
    assert attribute_of(Source, "url") == "url"


@pytest.mark.parametrize("annotation", [bytes, dict[int, str], Literal, int | str, object])
def test_a_type_that_no_config_can_hold_is_a_defect_that_names_the_field(annotation):
    odd = {"__annotations__": {"odd": annotation}, "odd": field(doc="Odd.")}
    made = section(type("Odd", (), odd))
    with pytest.raises(TypeError, match=r"Odd\.odd: .* is no type of a config field"):
        fields_of(made)


def test_fields_without_a_default_are_required():
    fields = fields_of(Source)
    assert fields["url"].required
    assert not fields["token"].required
    assert fields["names"].make_default() == []
    assert fields["names"].make_default() is not fields["names"].make_default()


def test_attributes_that_are_no_fields_cannot_be_configured():
    @section
    class Known:
        """Something."""

        a: int = field(default=1, doc="A.")
        b: int = 2

    assert list(fields_of(Known)) == ["a"]


def test_nothing_happens_anywhere_else_when_a_component_is_declared():
    @processor("once", summary="Once.", stability="beta", ours=True, categories=["A"])
    class Once:
        """Something."""

        a: Any = field(default=1, doc="A.")

    spec = Once.__spec__
    assert (spec.summary, spec.stability, spec.ours, spec.categories) == (
        "Once.",
        "beta",
        True,
        ("A",),
    )


def test_a_batch_policy_that_limits_nothing_is_none():
    assert BatchPolicy().is_noop
    assert BatchPolicy(count=1).is_noop
    assert not BatchPolicy(count=2).is_noop
    assert not BatchPolicy(period=Duration("1s")).is_noop


def test_a_text_without_expressions_is_itself():
    text = Interpolated("plain", "f:1:2")
    assert (text.static, text.resolve([], 0), repr(text)) == (
        "plain",
        "plain",
        "<Interpolated f:1:2>",
    )
    assert text == Interpolated("plain")
    assert text != Interpolated("other")
