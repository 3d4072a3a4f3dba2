"""Pages and schema are derived from the specs."""

import jsonschema_rs
import pytest
import yaml

from kit.config_parts import REGISTRY, Catch, Sink, Source
from openmeter_collector.config import Config
from openmeter_collector.spec.json_schema import json_schema
from openmeter_collector.spec.reference import component_page, pages


def test_the_page_of_a_component():
    page = component_page(Source.__spec__)
    for part in (
        "# `source` input\n\nRead from somewhere. In pieces.\n\nLonger text.\n",
        "## All of it\n\n```yaml\ninput: {source: {url: 'http://x'}}\n```",
        "### `url`\n\nWhere to read.\n\n- Type: address\n- Required\n",
        "### `every`\n\nHow often.\n\n- Type: duration\n- Default: `1s`\n",
        "- Bounds: at least 0 and at most 10\n",
        "| `slow` | With \\| care. |",
        "### `tls.enabled`",
        "### `hosts[].key`",
        "- Secret: never shown",
        "- Deprecated.",
        "- Known to this collector only.",
        "### `from`",
    ):
        assert part in page


def test_a_value_component_says_where_its_value_stands():
    assert "Stands directly below `catch`.\n\n### `processors`" in component_page(Catch.__spec__)


def test_defaults_of_a_place_are_on_its_page():
    assert "### `batching`\n\nHow batches are made.\n\n- Type: object\n- Default: `count: 7`\n" in (
        component_page(Sink.__spec__)
    )


def test_the_index_links_every_page():
    made = pages(REGISTRY)
    index = made.pop("README.md")
    assert set(made) == {name for name in made if f"]({name})" in index}
    assert "| [`dedupe`](processors/dedupe.md) (deprecated) | Drop what was seen. |" in index
    assert "## Inputs" in index
    assert "## Metrics\n" in index


VALID = [
    "{}",
    "input: {label: a, source: {url: 'http://x', count: '${N:1}', mode: SLOW, token: 5}}",
    "output: {guard: {output: {sink: {batching: {count: 5}}}, store: }}",
    "pipeline: {processors: [{catch: [{mapping: root = this}]}]}",
    "metrics: {page: {}, mapping: root = this}",
    "input: {source: {url: http://x}, processors: [{noop: {}}]}",
]
INVALID = [
    "nope: 1",
    "input: {source: {}}",
    "input: {sauce: {}}",
    "input: {source: {url: http://x, names: x}}",
    "output: {guard: {output: [1]}}",
    "pipeline: {processors: [{catch: {}}]}",
]


@pytest.mark.parametrize(
    ("text", "valid"), [(t, True) for t in VALID] + [(t, False) for t in INVALID]
)
def test_the_schema_knows_right_from_wrong(text, valid):
    schema = jsonschema_rs.validator_for(json_schema(REGISTRY, Config))
    assert schema.is_valid(yaml.safe_load(text)) is valid


def test_the_schema_explains():
    schema = json_schema(REGISTRY, Config)
    source = schema["$defs"]["input.source"]
    assert source["description"].startswith("Read from somewhere.")
    assert (
        source["properties"]["mode"]["description"]
        == "How.\n- `fast`: Quickly.\n- `slow`: With | care."
    )
    assert source["properties"]["every"]["default"] == "1s"
    assert source["required"] == ["url"]
    assert source["properties"]["old"]["deprecated"] is True
    assert schema["$defs"]["processor.dedupe"]["deprecated"] is True
    assert schema["properties"]["http"]["properties"]["address"]["default"] == "0.0.0.0:4195"
