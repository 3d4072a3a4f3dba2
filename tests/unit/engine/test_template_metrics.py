"""`metrics_mapping` of templates: names and labels of the metrics of what is inside."""

import asyncio

import pytest

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config.templates import with_templates
from openmeter_collector.testing.running import running

COUNTS = """
name: counts
type: processor
fields: [{name: steps, type: unknown}]
mapping: root.try = this.steps
metrics_mapping: |
  meta label = $label + "!"
  root = if this == "processor_sent" { deleted() } else { this.replace("processor", "counts") }
"""
CONFIG = """
http: {enabled: false}
input: {generate: {count: 3, interval: "", mapping: root.id = 1}}
pipeline:
  processors:
    - label: mine
      counts:
        steps: [{metric: {type: counter, name: processor_seen}}]
    - mapping: root = this
output: {drop: {}}
"""


@pytest.fixture
def registry(tmp_path):
    path = tmp_path / "counts.yaml"
    path.write_text(COUNTS)
    outer = tmp_path / "outer.yaml"
    outer.write_text(
        'name: outer\ntype: processor\nmetrics_mapping: root = this + "_" + $label\n'
        'mapping: \'root.counts.steps = [{"mapping": "root = this"}]\'\n'
    )
    return with_templates(standard_registry(), [path, outer], {})


async def metrics_of(text, registry):
    async with running(text, registry) as collector:
        while collector.metrics.total("output_sent") < 3:
            await asyncio.sleep(0.01)
    return [(name, labels["path"], labels) for _, name, labels, _ in collector.metrics.samples()]


async def test_metrics_of_what_is_inside_are_renamed_and_left_out(registry):
    found = await metrics_of(CONFIG, registry)
    inside = {
        name: labels
        for name, path, labels in found
        if path.startswith("root.pipeline.processors.0")
    }
    assert {"counts_received", "counts_seen", "counts_batch_sent"} <= inside.keys()
    assert not [name for name in inside if name.startswith("processor_")]
    assert "counts_sent" not in inside
    assert {labels["label"] for labels in inside.values()} == {"mine!"}


async def test_metrics_of_its_neighbours_keep_their_names(registry):
    found = await metrics_of(CONFIG, registry)
    outside = {name for name, path, _ in found if path == "root.pipeline.processors.1"}
    assert {"processor_received", "processor_sent"} <= outside


async def test_a_template_in_a_template_names_first_and_the_one_around_it_next(registry):
    text = CONFIG.replace(
        "counts:\n        steps: [{metric: {type: counter, name: processor_seen}}]", "outer: {}"
    )
    found = await metrics_of(text, registry)
    assert "counts_received_mine" in {name for name, _, _ in found}


async def test_the_mapping_of_the_config_sees_what_the_template_made(registry):
    mapping = 'metrics: {none: {}, mapping: \'root = this.replace("counts_", "all_")\'}\n'
    text = CONFIG + mapping
    assert "all_seen" in {name for name, _, _ in await metrics_of(text, registry)}
