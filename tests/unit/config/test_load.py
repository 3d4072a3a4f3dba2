"""A text becomes typed config, or all of its faults."""

from contextlib import asynccontextmanager
from typing import Literal

import pytest

from openmeter_collector.api import (
    BatchPolicy,
    CacheRef,
    Duration,
    Interpolated,
    OutputNode,
    ProcessorNode,
    cache,
    field,
    input,  # noqa: A004
    output,
    processor,
    section,
)
from openmeter_collector.config import InvalidConfig, load
from openmeter_collector.spec.registry import Registry


class _Opens:
    __slots__ = ()

    @asynccontextmanager
    async def open(self, env):
        yield None


@section
class Tls:
    """How to encrypt."""

    enabled: bool = field(default=False, doc="On or off.")


@input("source")
class Source(_Opens):
    """Read from somewhere."""

    url: str = field(doc="Where.")
    every: Duration = field(default=Duration("1s"), doc="How often.")
    count: int = field(default=0, minimum=0, doc="How many.")
    mode: Literal["fast", "slow"] = field(default="fast", doc="How.")
    names: list[str] = field(default_factory=list, doc="Names.")
    headers: dict[str, Interpolated] = field(default_factory=dict, doc="Headers.")
    tls: Tls = field(default_factory=Tls, doc="Encryption.")
    token: str | None = field(default=None, secret=True, doc="Token.")


@processor("noop")
class Noop(_Opens):
    """Do nothing."""


@processor("catch", value="processors")
class Catch(_Opens):
    """Handle failures."""

    processors: list[ProcessorNode] = field(doc="What to do.")


@processor("dedupe")
class Dedupe(_Opens):
    """Drop what was seen."""

    cache: CacheRef = field(doc="Where to remember.")


@output("sink")
class Sink(_Opens):
    """Write."""

    batching: BatchPolicy = field(default_factory=BatchPolicy, doc="Batches.")


@output("guard")
class Guard(_Opens):
    """Wrap an output."""

    output: OutputNode = field(doc="The wrapped one.")


@cache("memory")
class Memory(_Opens):
    """Remember."""


REGISTRY = Registry.of(Source, Noop, Catch, Dedupe, Sink, Guard, Memory)


def faults(text, **env):
    with pytest.raises(InvalidConfig) as caught:
        load(text, REGISTRY, env=env, file="c.yaml")
    return caught.value.problems


def test_a_config_becomes_nodes_with_places():
    config = load(
        """\
input:
  label: here
  source:
    url: ${HOST:http://a}/x
    every:
    names: [1, yes, "2", ~]
    headers: {A: b}
    mode: SLOW
  processors:
    - catch:
        - noop: {}
output:
  guard:
    output:
      sink:
        batching: {count: 5, period: "${P:}"}
""",
        REGISTRY,
        env={},
        file="c.yaml",
    )
    source = config.input.config
    assert (config.input.path, config.input.label, config.input.where) == (
        "root.input",
        "here",
        "c.yaml:3:3",
    )
    assert source.url == "http://a/x"
    assert source.every == 0
    assert source.names == ["1", "yes", "2", ""]
    assert source.headers["A"].static == "b"
    assert source.mode == "slow"
    assert config.input.processors[0].config.processors[0].path == "root.input.processors.0.catch.0"
    sink = config.output.config.output
    assert (sink.name, sink.path) == ("sink", "root.output.guard.output")
    assert sink.config.batching.count == 5
    assert sink.config.batching.period is None


def test_all_faults_are_told_at_once_with_places():
    found = faults("""\
input:
  source:
    urll: x
    count: many
    mode: fsat
    tls: yes
output:
  snk: {}
nope: 1
""")
    assert found == (
        "c.yaml:3:5 root.input.source: no field 'urll'; did you mean 'url'?",
        "c.yaml:3:5 root.input.source.url: field 'url' is missing; Where.",
        "c.yaml:4:12 root.input.source.count: 'many' is not a whole number",
        "c.yaml:5:11 root.input.source.mode: 'fsat' is none of the options; did you mean 'fast'?",
        "c.yaml:6:10 root.input.source.tls: found a text; write an object",
        "c.yaml:8:3 root.output: there is no output 'snk'; did you mean 'sink'?",
        (
            "c.yaml:9:1 root: no field 'nope'; it has: http, input, buffer, pipeline, output, "
            "input_resources, processor_resources, output_resources, cache_resources, "
            "rate_limit_resources, logger, metrics, ..."
        ),
    )


def test_a_reference_needs_its_resource():
    text = "pipeline: {processors: [{dedupe: {cache: mem}}]}\n"
    assert faults(text) == (
        (
            "c.yaml:1:42 root.pipeline.processors.0.dedupe.cache: cache resource 'mem' was not found; "
            "add it to cache_resources"
        ),
    )
    config = load(
        text + "cache_resources: [{label: mem, memory: {}}]\n", REGISTRY, env={}, file="c.yaml"
    )
    assert config.pipeline.processors[0].config.cache == "mem"


def test_labels_are_words_used_once():
    found = faults("""\
input: {label: Foo Bar, source: {url: x}}
output:
  label: a
  guard: {output: {label: a, sink: {}}}
""")
    assert found == (
        (
            "c.yaml:1:16 root.input.label: 'Foo Bar' is not a label; use small letters, digits, '_' "
            "and '-', not starting with '_'"
        ),
        (
            "c.yaml:4:27 root.output.guard.output.label: label 'a' is already used at c.yaml:3:10; "
            "give each component a label of its own"
        ),
    )
