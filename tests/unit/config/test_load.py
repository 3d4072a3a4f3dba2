"""A text becomes typed config, or all of its faults."""

import pytest

from kit.config_parts import REGISTRY, Sink, Source
from openmeter_collector.config import Config, InvalidConfig, Resources, Stream, load, read
from openmeter_collector.spec.fields import CodeError


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
    urll: http://x
    count: many
    mode: fsat
    tls: yes
output:
  snk: {}
nope: 1
""")
    assert found == (
        "c.yaml:3:5 root.input.source: no field 'urll'; did you mean 'url'?",
        "c.yaml:3:5 root.input.source.url: field 'url' is missing; Where to read.",
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
input: {label: Foo Bar, source: {url: 'http://x'}}
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


def problems(text, document=Config, **options):
    return read(text, REGISTRY, document, env={}, file="c.yaml", **options).problems


def test_every_kind_of_value_is_read_as_its_type():
    config = load(
        """\
input:
  source:
    url: http://x
    limit: 2KiB
    count: 0x5
    ratio: 1
    pair: [1, 2.0, "3"]
    tls: {enabled: on}
    hosts: [{enabled: "true"}]
    token: 1.0
    raw: {a: [1, ~, yes]}
    from: 007
""",
        REGISTRY,
        env={},
    ).input.config
    assert isinstance(config, Source)
    assert (config.limit, config.count, config.ratio, config.pair) == (2048, 5, 1.0, (1, 2, 3))
    assert (config.tls.enabled, config.hosts[0].enabled) == (True, True)
    assert (config.token, config.raw, config.from_) == ("1.0", {"a": [1, None, "yes"]}, "007")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("count: 11", "count: is too large; the most is 10"),
        ("count: -1", "count: is too small; the least is 0"),
        ("count: 1.5", "count: '1.5' is not a whole number"),
        ("count: 9223372036854775808", "count: '9223372036854775808' does not fit 64 bits"),
        ("count: [1]", "count: found a list; write a whole number"),
        ("ratio: much", "ratio: 'much' is not a number"),
        ("every: 5 minutes", "every: '5 minutes' is not a duration; write a number and a unit"),
        ("limit: big", "limit: 'big' is not a size"),
        ("names: [1, 2, 3, 4, 5]", "names: is too long; the most is 4 long"),
        ("names: x", "names: found a text; write a list"),
        ("names:", "names: found nothing; write a list"),
        ("headers: [x]", "headers: found a list; write an object"),
        ("tls: {enabled: maybe}", "tls.enabled: 'maybe' is neither true nor false"),
        ("hosts: [{}, {on: 1}]", "hosts.1: no field 'on'"),
    ],
)
def test_a_wrong_value_is_told_with_what_to_write(value, fault):
    (found,) = faults(f"input:\n  source:\n    url: http://x\n    {value}\n")
    assert f"root.input.source.{fault}" in found


@pytest.mark.parametrize("url", ["nonsense", "http://[x", "http://h:port", "//h"])
def test_an_address_needs_scheme_and_host(url):
    (found,) = faults(f"input: {{source: {{url: '{url}'}}}}")
    assert "root.input.source.url: the address" in found


def test_fields_left_out_take_the_defaults_of_their_place():
    config = load("output: {sink: {batching: {period: 1s}}}", REGISTRY, env={})
    assert isinstance(config.output.config, Sink)
    assert (config.output.config.batching.count, config.output.config.batching.period) == (7, 1.0)


def test_what_only_a_linter_minds_can_be_tolerated():
    text = "input: {label: A B, source: {url: 'http://x/${NONE}', nope: 1}}\nnope: 1\n"
    assert len(faults(text)) == 4
    reading = read(text, REGISTRY, Config, env={}, chilled=True)
    assert reading.config.input.config.url == "http://x/"
    assert {problem.severity for problem in reading.problems} == {"warning"}
    assert read(f"# BENTHOS LINT DISABLE\n{text}", REGISTRY, Config, env={}).config is not None


def test_resources_come_from_files_too(tmp_path):
    caches = tmp_path / "caches.yaml"
    caches.write_text("cache_resources: [{label: a, memory: {}}]\n")
    text = "pipeline: {processors: [{dedupe: {cache: a}}]}\ncache_resources: [{label: b, memory: {}}]\n"
    config = load(text, REGISTRY, env={}, resource_files=[caches])
    assert [node.label for node in config.cache_resources] == ["b", "a"]
    assert config.cache_resources[1].where == f"{caches}:1:30"
    caches.write_text("cache_resources: [{label: b, memory: {}}]\n")
    with pytest.raises(InvalidConfig) as caught:
        load(text, REGISTRY, env={}, resource_files=[caches])
    assert "label 'b' is already used at <config>:2:27" in str(caught.value)
    assert "cache resource 'a' was not found; did you mean" not in str(caught.value)


def test_a_stream_and_resources_have_fields_of_their_own():
    assert problems("input: {label: a, source: {url: 'http://x'}}", Stream) == ()
    (fault,) = problems("http: {}", Stream)
    assert "no field 'http'" in fault.friendly()
    (fault,) = problems("input: {}", Resources)
    assert "no field 'input'" in fault.friendly()
    reading = read(
        "pipeline: {processors: [{dedupe: {cache: a}}]}",
        REGISTRY,
        Stream,
        env={},
        known_resources=[("cache", "a")],
    )
    assert reading.config.pipeline.processors[0].config.cache == "a"


def test_overrides_are_decoded_like_the_file():
    config = load(
        "pipeline: {threads: 2}",
        REGISTRY,
        env={},
        overrides=["pipeline.threads=4", "output.guard.output.sink={}"],
    )
    assert config.pipeline.threads == 4
    assert config.output.config.output.name == "sink"
    with pytest.raises(InvalidConfig) as caught:
        load("", REGISTRY, env={}, overrides=["pipeline.thread=4"])
    assert caught.value.problems == (
        "--set:1:1 root.pipeline: no field 'thread'; did you mean 'threads'?",
    )


def test_notes_are_there_for_whoever_asks():
    text = """\
input: {source: {url: 'http://x', old: true, extra: true}, processors: []}
output: {guard: {output: {sink: {}}}}
pipeline: {processors: [{dedupe: {cache: a}}]}
cache_resources: [{label: a, memory: {}}]
"""
    told = {(p.severity, p.line, p.message) for p in problems(text)}
    assert {
        ("deprecated", 1, "field old is deprecated"),
        ("ours", 1, "field 'extra' is known to this collector only"),
        ("lint", 1, "field processors is empty and can be removed"),
        ("ours", 2, "output 'guard' is known to this collector only"),
        ("unlabelled", 2, "label is required for root.output"),
        ("deprecated", 3, "component dedupe is deprecated"),
    } <= told
    assert read(text, REGISTRY, Config, env={}).config is not None


def test_a_component_may_be_named_by_its_type():
    config = load("input: {type: source, source: {url: 'http://x'}}", REGISTRY, env={})
    assert (config.input.name, config.input.where) == ("source", "<config>:1:9")
    config = load("input: {type: source, plugin: {url: 'http://x'}}", REGISTRY, env={})
    assert config.input.config.url == "http://x"


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("{source: {url: 'http://x'}, guard: {}}", "'guard' stands beside 'source'"),
        ("{guard: {}}", "there is no input 'guard'; 'guard' is an output"),
        ("{sorce: {}}", "there is no input 'sorce'; did you mean 'source'?"),
        ("{type: sorce}", "there is no input 'sorce'; did you mean 'source'?"),
        ("{label: x}", "an input is missing; write one of: source"),
        ("[source]", "found a list where an input stands"),
        ("source", "found a text where an input stands"),
    ],
)
def test_a_place_holds_one_component(place, fault):
    assert any(fault in line for line in faults(f"input: {place}"))


def test_two_components_in_one_place_are_told():
    (fault,) = faults("pipeline: {processors: [{noop: {}, mapping: root = this}]}")
    assert "'noop' and 'mapping' stand in the place of one processor; keep one of them" in fault


@pytest.mark.parametrize(
    ("written", "place", "lint"),
    [
        ("mapping: root = BAD", "3:23", (3, 16 + 8)),
        ("mapping: 'root = BAD'", "3:24", (3, 16 + 8)),
        ("mapping: |\n        a\n        root = BAD", "5:16", (5, 16 + 8)),
        ("mapping: |2\n          a\n        root = BAD", "5:16", (5, 16 + 8)),
    ],
)
def test_a_fault_in_a_mapping_has_its_place_in_the_file(monkeypatch, written, place, lint):
    def compile_mapping(text, how_to_read_files=""):
        lines = text.split("\n")
        line = next(i for i, one in enumerate(lines) if "BAD" in one)
        raise CodeError("a fault; a hint", line + 1, lines[line].index("BAD") + 1, "lint's words")

    monkeypatch.setattr("openmeter_collector.spec.fields.compile_mapping", compile_mapping)
    text = f"pipeline:\n  processors:\n    - {written}\n"
    (fault,) = [p for p in problems(text) if p.severity == "error"]
    assert fault.friendly() == f"c.yaml:{place} root.pipeline.processors.0.mapping: a fault; a hint"
    assert (fault.message, fault.lint_at) == ("lint's words", lint)


@pytest.mark.parametrize(
    ("text", "env", "wanted"),
    [
        ("{}", {"LOG_LEVEL": "debug", "LOG_FORMAT": "json"}, ("DEBUG", "json")),
        ("logger: {level: WARN}", {"LOG_LEVEL": "debug", "LOG_FORMAT": "json"}, ("WARN", "json")),
        ("logger: {level: WARN, format: logfmt}", {"LOG_LEVEL": "x", "LOG_FORMAT": "x"}, ("WARN", "logfmt")),
        ("{}", {"LOG_LEVEL": "chatty"}, ("INFO", "logfmt")),
        ("{}", {"LOG_LEVEL": ""}, ("INFO", "logfmt")),
    ],
)  # fmt: skip
def test_what_a_config_leaves_open_about_logs_is_said_by_the_environment(text, env, wanted):
    reading = read(text, REGISTRY, Config, env=env)
    logger = reading.or_raise().logger
    assert (logger.level, logger.format) == wanted
    ignored = [one for one in reading.problems if one.severity == "warning"]
    assert bool(ignored) is (env.get("LOG_LEVEL") == "chatty")
