"""A test made of an attempt passes where tests are run, and fails when the mapping is another."""

import pytest

from openmeter_collector.admin.attempt import Asked, NotUnderstood, Reach
from openmeter_collector.admin.config_mappings import mappings_of
from openmeter_collector.admin.unit_case import Wanted, yaml_of
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.config.unit_tests import definition_of
from openmeter_collector.testing.unit_tests import run_tests

REGISTRY = standard_registry()


async def outcome(path):
    made = await run_tests(definition_of(path), REGISTRY, env={})
    assert made.broken == ""
    assert made.cases == 1
    return [reason for failure in made.failed for reason in failure.reasons]


def alone(tmp_path, document, mapping, **how):
    path = tmp_path / "mapping_test.yaml"
    path.write_text(yaml_of(Asked(document, mapping, **how), Wanted("it"), Reach()))
    return path


LINES = '{"n":1,"s":"x"}\n{"n":2,"s":""}\nnot json\n{"n":2.50,"s":"é\\u0000 ${X}"}\n\n[1,2]'


@pytest.mark.parametrize("mode", ["mapping", "mutation"])
@pytest.mark.parametrize(
    "metadata", ["", '{"k":"v","n":3}', '[{"k":1},{},{"k":"x"},{},{"k":true}]']
)
@pytest.mark.parametrize(
    "mapping",
    [
        "root = this",
        "root.twice = this.n * 2",
        "root = deleted()",
        "root = if this.n == 2 { deleted() }",
        'root.a = 1\nroot.b = this.s.number()\nmeta k = "written"',
        'meta = {"only": "this"}',
        "meta k = deleted()\nmeta n = this.n",
        "root = this.s",
        "root = this.n",
        "root = null",
        'root = content().encode("hex")',
        "root = content().slice(0, 3)",
        "root = batch_index()",
        'root = "ff00".decode("hex")',
        "root.id = uuid_v4()\nroot.n = this.n",
        "root = uuid_v4()",
        'root.at = now()\nroot.deep = {"at": timestamp_unix(), "n": [timestamp_unix_nano(), 1]}',
        'root.c = count("made")',
        'root.x = throw("odd: \\"quoted\\" %v\\n" + uuid_v4())',
        'root.big = this.n * 9223372036854775807\nroot.f = 1.10\nroot.e = ""\nroot.l = []',
        'root = {"a b": {"": [null, true, "yes", "1", "~", "- x", " lead", "#"]}}',
        "root.w = this.not_there.uppercase()",
    ],
)
async def test_it_passes_where_tests_are_run(tmp_path, mapping, metadata, mode):
    path = alone(tmp_path, LINES, mapping, lines=True, metadata=metadata, mode=mode)
    assert await outcome(path) == [], path.read_text()


@pytest.mark.parametrize("document", ["", "{}", " \n{\n}\n", '"text"', "[]", "1e3"])
async def test_a_document_that_is_one_message_is_one(tmp_path, document):
    for mapping in ("root = this", "root = content()", "root.a = 1"):
        assert await outcome(alone(tmp_path, document, mapping)) == []


@pytest.mark.parametrize(
    ("mapping", "other"),
    [
        ("root = this", "root = deleted()"),
        ("root = deleted()", "root = this"),
        ("root.a = 1", "root.a = 2"),
        ('meta k = "a"', 'meta k = "b"'),
        ("meta k = deleted()", "root = this"),
        ("root.id = uuid_v4()\nroot.a = 1", "root.id = uuid_v4()\nroot.a = 2"),
        ('root = throw("one")', 'root = throw("other")'),
        ("root = this.s", 'root = "else"'),
    ],
)
async def test_it_fails_when_the_mapping_is_another(tmp_path, mapping, other):
    path = alone(tmp_path, '{"n":1,"s":"x"}', mapping, metadata='{"k":"v"}')
    text = path.read_text()
    head, tests = text[: text.index("tests:")], text[text.index("tests:") :]
    assert head.startswith("pipeline:")
    path.write_text(
        yaml_of(Asked("{}", other), Wanted("x"), Reach()).partition("tests:")[0] + tests
    )
    assert await outcome(path) != []


def test_what_cannot_be_expected_is_said(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1.0)
    asked = Asked("{}", "root = if timestamp_unix() < 1000 { deleted() }")
    with pytest.raises(NotUnderstood, match="in each run"):
        yaml_of(asked, Wanted("x"), Reach())
    with pytest.raises(NotUnderstood, match="mapping file"):
        yaml_of(Asked("{}", "", mode="mutation"), Wanted("x", mapping_file="m"), Reach())


CONFIG = """
input: {generate: {mapping: 'root = {}', count: 0}}
processor_resources:
  - label: shared
    mutation: root.shared = this.n
pipeline:
  processors:
    - label: tidy
      mapping: |
        root = this
        root.tidy = true
    - mutation: root.plain = 1
    - branch:
        request_map: root = this.n
        processors:
          - bloblang: root.inner = this
          - try:
              - mapping: root.deeper = this.n
        result_map: root.x = this
    - switch:
        - check: this.n == 1
          processors: [{mapping: root.cased = this.n}]
output: {drop: {}}
"""


def config_of(tmp_path):
    path = tmp_path / "collector.yaml"
    path.write_text(CONFIG)
    config = load(path, REGISTRY, env={})
    return path, [config.input, *config.pipeline.processors, *config.processor_resources]


async def test_a_test_of_a_processor_of_the_config_finds_it_wherever_it_stands(tmp_path):
    path, nodes = config_of(tmp_path)
    found = [one for one in mappings_of(nodes, ()) if "processors" in one]
    assert len(found) == 6
    for one in found:
        asked = Asked('{"n":1}', one["text"], mode=one["mode"])
        beside = tmp_path / one["test_file"]
        assert beside.name == "collector_benthos_test.yaml"
        beside.write_text(yaml_of(asked, Wanted("it", processors=one["processors"]), Reach()))
        assert await outcome(path) == [], one
        wrong = Asked('{"n":1}', "root = 7", mode=one["mode"])
        beside.write_text(yaml_of(wrong, Wanted("it", processors=one["processors"]), Reach()))
        assert await outcome(path) != []


async def test_a_test_of_a_mapping_file_names_it(tmp_path):
    (tmp_path / "tidy.blobl").write_text("root = this.n")
    path = tmp_path / "tidy_test.yaml"
    wanted = Wanted("it", mapping_file="tidy.blobl")
    path.write_text(yaml_of(Asked('{"n":1}', "root = this.n"), wanted, Reach()))
    assert "target_mapping: tidy.blobl" in path.read_text()
    assert await outcome(path) == []


def test_mappings_are_listed_with_their_places_in_order(tmp_path):
    path, nodes = config_of(tmp_path)
    found = mappings_of(nodes, ())
    assert [(one["place"].removeprefix(str(path)), one["name"]) for one in found] == [
        (":2", "input"),
        (":9", "tidy"),
        (":12", "pipeline.processors.1"),
        (":14", "pipeline.processors.2 request_map"),
        (":19", "pipeline.processors.2 result_map"),
        (":16", "pipeline.processors.2.branch.processors.0"),
        (":18", "pipeline.processors.2.branch.processors.1.try.0"),
        (":21", "pipeline.processors.3 cases.0.check"),
        (":22", "pipeline.processors.3.switch.0.processors.0"),
        (":5", "shared"),
    ]
    assert found[1]["text"] == "root = this\nroot.tidy = true\n"


def test_a_secret_in_a_mapping_is_not_shown_and_the_test_is_not_of_the_config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("pipeline: {processors: [{mapping: 'root.k = \"planted-canary\"'}]}")
    config = load(path, REGISTRY, env={})
    (one,) = mappings_of(config.pipeline.processors, {"planted-canary"})
    assert "canary" not in str(one)
    assert one["hidden"]
    assert "processors" not in one
