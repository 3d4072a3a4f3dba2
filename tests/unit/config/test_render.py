"""A config printed reads back as the same config, and shows no secret."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.config_parts import REGISTRY
from openmeter_collector.component.node import Node
from openmeter_collector.config import Config, InvalidConfig, read, tree
from openmeter_collector.config.emit import Remark, to_yaml
from openmeter_collector.config.lint import SCRUBBED
from openmeter_collector.config.render import render
from openmeter_collector.config.source_text import interpolate
from openmeter_collector.spec.component import fields_of
from openmeter_collector.spec.fields import MappingText

SECRETS = ["9735", "hunter-two", "sk_live_0123", "9731", "pass-in-url", "key-in-header"]
LEAKY = """\
input:
  source:
    url: http://user:pass-in-url@host/x
    token: hunter-two
    tokens: [hunter-two, sk_live_0123]
    pin: 9731
    tls: {key: hunter-two}
    headers: {Authorization: "Bearer ${API_TOKEN}", "${API_TOKEN}": x}
    raw: {nested: ["${API_TOKEN}"]}
    old: true
"""
ENV = {"API_TOKEN": "key-in-header"}


def test_no_secret_is_printed():
    reading = read(LEAKY, REGISTRY, Config, env=ENV)
    shown = render(reading.config, reading.secrets)
    assert [secret for secret in SECRETS if secret in shown] == []
    assert f'url: "http://user:{SCRUBBED}@host/x"' in shown
    assert f'token: "{SCRUBBED}"' in shown
    assert f'Authorization: "Bearer {SCRUBBED}"' in shown
    assert all(secret in render(reading.config, scrub=False) for secret in SECRETS[1:])


def test_a_secret_of_several_lines_is_found_in_both_forms():
    text = "logger: {static_fields: {a: \"${KEY}\", b: '${KEY}'}}"
    reading = read(text, REGISTRY, Config, env={"KEY": "line one\nline two"})
    shown = render(reading.config, reading.secrets)
    assert shown.count(f'"{SCRUBBED}"') == 2
    assert "line one" not in shown


def test_a_very_short_secret_is_hidden_where_it_stands_alone():
    reading = read(
        "logger: {static_fields: {a: '${X_KEY}', c: abc}}", REGISTRY, Config, env={"X_KEY": "b"}
    )
    assert f'a: "{SCRUBBED}"\n    c: abc' in render(reading.config, reading.secrets)


def test_no_secret_is_in_a_repr():
    config = read(LEAKY, REGISTRY, Config, env=ENV).config
    shown = f"{config!r} {config.input!r} {config.input.config!r} {config.input.config.headers['Authorization']!r}"
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "<Source>" in shown


@pytest.mark.parametrize(
    "change",
    [
        ("pin: 9731", "pin: 9731x"),
        ("pin: 9731", "pin: [9731]"),
        ("pin: 9731", "pin: 97317"),
        ("pin: 9731", "pin: 9735"),
        ("token: hunter-two", "token: [hunter-two]"),
        ("tokens: [hunter-two, sk_live_0123]", "tokens: hunter-two"),
        ("tokens: [hunter-two, sk_live_0123]", "tokens: {a: sk_live_0123}"),
        ("tls: {key: hunter-two}", "tls: hunter-two"),
        ("tls: {key: hunter-two}", "tls: {key: [hunter-two]}"),
        ("url: http://user:pass-in-url@host/x", "url: http://user:pass-in-url@host:port/x"),
        ("old: true", 'count: "${API_TOKEN}"'),
        ("old: true", 'mode: "${API_TOKEN}"'),
        ("old: true", '"${API_TOKEN}": 1'),
        ("old: true", 'every: "${API_TOKEN}"'),
        ("  source:", '  label: "${API_TOKEN}!"\n  source:'),
        ("  source:", '  type: "${API_TOKEN}"\n  source:'),
        ("old: true", "token: hunter-two"),
        ("old: true", 'names: {"${API_TOKEN}": 1}'),
        (
            'headers: {Authorization: "Bearer ${API_TOKEN}", "${API_TOKEN}": x}',
            'headers: {"${API_TOKEN}": [1]}',
        ),
        (
            "    old: true",
            (
                "pipeline: {processors: [{dedupe: {cache: key-in-headre}}]}\n"
                'cache_resources: [{label: "${API_TOKEN}", memory: {}}]'
            ),
        ),
    ],
)
def test_no_secret_is_in_a_fault(change):
    text = LEAKY.replace(*change)
    assert text != LEAKY
    reading = read(text, REGISTRY, Config, env=ENV)
    with pytest.raises(InvalidConfig) as caught:
        reading.or_raise()
    told = f"{caught.value} {reading!r} {[p.lint_line() for p in reading.problems]}"
    assert [secret for secret in SECRETS if secret in told] == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(["yes", "", "~", "null", "0x1", "1e3", "a: b", "- a", "#", "${A}", "${{A}}",
                       "a\nb", "a\n b\n", "\n", " a", "a\n\n", "x\ty\nz", "${A:\n}", "a #b", "<<"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(["<<", "${A}", "~"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["<<", "y"]), VALUES, max_size=4))
def test_plain_values_read_back(value):
    text = interpolate(to_yaml(value), {"A": "wrong"})
    assert text.missing == ()
    assert tree.parse(text.text).value() == value


def test_what_is_printed_is_pleasant_to_read():
    value = {
        "a": Remark({"b": "root = this\nroot.x = 1\n"}, "Two lines\nof words"),
        "l": [{"x": 1, "z": [True, None]}, "two words", "no"],
        "e": [[], {}, [1]],
    }
    assert (
        to_yaml(value)
        == """\
# Two lines
# of words
a:
  b: |
    root = this
    root.x = 1
l:
  - x: 1
    z:
      - true
      - null
  - two words
  - "no"
e:
  - []
  - {}
  -
    - 1
"""
    )
    assert to_yaml({}) == "{}\n"


def without_places(value: Any) -> Any:
    """The config with places taken out, as plain values that can be compared."""
    if isinstance(value, Node):
        return replace(value, where="", config=without_places(value.config)), type(value.config)
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if hasattr(type(value), "__dataclass_fields__"):
        names = fields_of(type(value))
        return {n: without_places(getattr(value, n if n != "from" else "from_")) for n in names}
    return value


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=10)
SOURCES = st.fixed_dictionaries(
    {"url": st.sampled_from(["http://x", "tcp://h:1/${! error() }".replace("${!", "{")])},
    optional={
        "every": st.sampled_from(["1s", "1h30m", "0s", "250ms"]),
        "limit": st.sampled_from(["1KiB", "5", 7]),
        "count": st.integers(0, 10),
        "ratio": st.floats(0, 1),
        "mode": st.sampled_from(["fast", "slow", "SLOW"]),
        "names": st.lists(TEXTS, max_size=3),
        "pair": st.lists(st.integers(-5, 5), max_size=3),
        "headers": st.dictionaries(TEXTS, TEXTS.filter(lambda t: "${!" not in t), max_size=2),
        "tls": st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "key": TEXTS}),
        "token": st.none() | TEXTS.filter(bool),
        "raw": VALUES,
        "from": TEXTS,
    },
)
PROCESSORS = st.recursive(
    st.sampled_from([{"noop": {}}, {"mapping": "root = this\nroot.a = 1\n"}]),
    lambda inner: st.lists(inner, max_size=2).map(lambda items: {"catch": items}),
    max_leaves=4,
)


@given(SOURCES, st.lists(PROCESSORS, max_size=3), st.booleans())
def test_a_rendered_config_reads_back_the_same(source, processors, wrapped):
    written = {
        "input": {"source": source, "label": "in"},
        "pipeline": {"processors": processors},
        "output": {"guard": {"output": {"sink": {}}}} if wrapped else {"sink": {}},
        "metrics": {"page": {}, "mapping": "root = this"},
    }
    first = read(to_yaml(written), REGISTRY, Config, env={}).or_raise()
    again = read(render(first, scrub=False), REGISTRY, Config, env={}).or_raise()
    assert without_places(again) == without_places(first)
    assert again.metrics_mapping == first.metrics_mapping == MappingText("root = this")
