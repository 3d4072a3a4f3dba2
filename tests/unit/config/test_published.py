"""Every published config: it lints, an editor's schema takes it, and what is broken is told where.

The files in `tests/published` are as they were published, but for a first line that says whence.
"""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from openmeter_collector.cli.lint import check
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, lint_lines
from openmeter_collector.spec.json_schema import json_schema

FOLDER = Path(__file__).parents[2] / "published"
FILES = sorted(FOLDER.glob("*.yaml"))
BROKEN = {"standard-output-misplaced"}
REGISTRY = standard_registry()


@pytest.fixture(scope="module")
def validator():
    return jsonschema_rs.validator_for(json_schema(REGISTRY, Config))


ENV = {
    "PROMETHEUS_URL": "http://p",
    "DATABASE_DRIVER": "postgres",
    "DATABASE_DSN": "postgres://x",
    "OTLP_ADDRESS": "x:1",
}


def faults(path):
    return [one for one in check(path, REGISTRY, ENV) if one.severity in ("error", "lint")]


def test_there_are_as_many_as_were_published():
    assert len(FILES) == 22


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_published_config_lints(path):
    if path.stem in BROKEN:
        assert faults(path)
        return
    assert [one.friendly() for one in faults(path)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_editors_schema_takes_a_published_config(path, validator):
    found = yaml.safe_load(path.read_text())
    assert validator.is_valid(found) is (path.stem not in BROKEN)


def test_what_is_wrong_with_the_misplaced_output_is_told_at_its_place():
    """On some pages `output` stands beside `drop_on` instead of below it."""
    path = FOLDER / "standard-output-misplaced.yaml"
    problems = check(path, REGISTRY, {})
    assert [
        line.partition("yaml")[2] for line in lint_lines(problems) if "label is" not in line
    ] == [
        "(5,1) field output is required",
        "(8,1) field output is invalid when the component type is drop_on (output)",
    ]
    told = next(one for one in problems if one.line == 8)
    assert told.hint == "move it below 'drop_on' if it is a field of it, else remove it"


@pytest.mark.parametrize(
    "text",
    [
        "output: {drop_on: {error: true}}",
        "output: {http_client: {url: 'http://x', batchin: {}}}",
        "output: {http_client: {url: 'http://x', batching: []}}",
        "output: {http_client: {url: 'http://x', max_in_flight: [1]}}",
        "output: {http_klient: {url: 'http://x'}}",
        "output: [drop]",
        "input: {generate: {count: 1}}",
        "pipeline: {processors: {mapping: root = this}}",
        "outputs: {drop: {}}",
        "cache_resources: {label: a, memory: {}}",
        "logger: {static_fields: [a]}",
    ],
)
def test_the_editors_schema_refuses_what_lint_refuses(text, validator, tmp_path):
    assert not validator.is_valid(yaml.safe_load(text))
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert any(one.severity == "error" for one in check(path, REGISTRY, {}))


@pytest.mark.parametrize(
    ("codec", "valid"), [("gzip/csv", True), ({"lines": {}}, True), ({"no": {}}, False)]
)
def test_the_schema_knows_codecs_by_their_word_and_as_scanners(validator, codec, valid):
    config = {"input": {"file": {"paths": ["a"], "codec": codec}}}
    assert validator.is_valid(config) is valid


def test_every_field_in_the_schema_is_explained():
    schema = json_schema(REGISTRY, Config)
    silent = []

    def walk(at, path):
        if isinstance(at, dict):
            for name, field in at.get("properties", {}).items():
                explained = isinstance(field, dict) and ("description" in field or "$ref" in field)
                if not explained and name not in ("type", "plugin", "meta"):
                    silent.append(f"{path}.{name}")
            for key, inner in at.items():
                walk(inner, f"{path}.{key}")

    walk(schema, "")
    assert silent == []
    json.dumps(schema)
