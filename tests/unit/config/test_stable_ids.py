"""A warning for ids that would be others if a window were fetched again."""

import pytest

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, read

REGISTRY = standard_registry()
PULLS = "prometheus: {url: 'http://x.test', queries: [{query: {name: a, promql: b}}]}"
SENT = "http_server: {path: /post}"


def warnings(source, mapping):
    text = (
        f"input:\n  {source}\npipeline:\n  processors:\n    - mapping: |\n        {mapping}\n"
        "output: {drop: {}}\n"
    )
    reading = read(text, REGISTRY, Config, env={}, file="c.yaml")
    assert reading.config is not None
    return [one for one in reading.problems if one.code == "random_id"]


@pytest.mark.parametrize("call", ["uuid_v4()", 'ksuid() + "x"', "now()"])
def test_a_random_id_behind_a_source_that_is_fetched_is_warned_of(call):
    (found,) = warnings(PULLS, f"root.id = {call}")
    assert found.severity == "warning"
    assert (found.file, found.line) == ("c.yaml", 5)
    assert call.partition("(")[0] in found.message
    assert "event_id" in found.hint


def test_a_source_inside_another_one_counts_as_well():
    inner = "{input: {kubernetes_resources: {namespaces: []}}, interval: 1m}"
    assert warnings(f"schedule: {inner}", "root.id = uuid_v4()")


def test_ids_that_stand_for_something_are_not_warned_of():
    assert not warnings(PULLS, 'root.id = event_id(this.name, meta("window_end"))')
    assert not warnings(PULLS, "root.other = uuid_v4()")


def test_what_is_sent_to_us_comes_once():
    assert not warnings(SENT, "root.id = uuid_v4()")
