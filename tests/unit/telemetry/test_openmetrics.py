"""OpenMetrics: read by the official parser, with the names of the other format, for those who ask."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed

from openmeter_collector.telemetry import openmetrics
from openmeter_collector.telemetry.counters import MetricStore, Sampled, SampledTimer, Timer

SAMPLED = Sampled("ab" * 16, "cd" * 8, 1_700_000_000.5)
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def store(sampled=lambda: SAMPLED):
    made = MetricStore()
    made.timer_bounds = (0.001, 1.0)
    made.sampled = sampled
    return made


def samples(made):
    families = list(parsed(openmetrics.exposition(made).decode()))
    return {one.name: one for family in families for one in family.samples}, families


def test_names_are_those_of_the_plain_text():
    """Whoever is asked in another format must not find other names on dashboards."""
    made = store()
    scope = made.scope(path='a "b"\\')
    scope.counter("input_received", 'What "came".').add(3)
    scope.counter("mended_total").add(2)
    scope.gauge("depth", "How deep.").set(1.5)
    scope.timer("output_latency_ns").observe(2_000_000)
    found, _ = samples(made)
    plain = made.exposition().decode()
    assert set(found) == {
        line.partition("{")[0] for line in plain.splitlines() if not line.startswith("#")
    }
    assert found["input_received"].value == 3
    assert found["input_received"].labels == {"path": 'a "b"\\'}
    assert found["mended_total"].value == 2


def test_summaries_are_read_as_well():
    made = MetricStore()
    made.scope().timer("took_ns").observe(7)
    found, _ = samples(made)
    assert (found["took_ns_count"].value, found["took_ns_sum"].value) == (1, 7)


def test_a_bucket_names_the_latest_trace_that_took_that_long():
    traces = [Sampled("00" * 16, "11" * 8, 1.0), SAMPLED, None]
    made = store(lambda: traces.pop(0))
    timer = made.scope().timer("output_latency_ns")
    timer.observe(2_000_000)
    timer.observe(3_000_000)
    timer.observe(4_000_000)  # of no trace that is sent
    _, (family,) = samples(made)
    first, second, last = [one for one in family.samples if one.name.endswith("_bucket")]
    assert (first.exemplar, last.exemplar) == (None, None)
    assert second.exemplar.labels == {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    assert (second.exemplar.value, float(second.exemplar.timestamp)) == (0.003, 1_700_000_000.5)
    assert second.value == 3


def test_what_ends_elsewhere_belongs_to_the_trace_in_which_it_began():
    traces = [SAMPLED, None]
    made = store(lambda: traces.pop(0))
    told = made.scope().timer("input_latency_ns").begin()
    told(5e9)
    timer = made.scope().timer("input_latency_ns")
    assert timer.buckets.examples[2] == (5.0, SAMPLED)
    assert traces == [None], "asked when it began, not when it ended"


def test_without_traces_or_without_buckets_timers_are_the_plain_ones():
    """What is not used costs nothing: not a look, not a comparison."""
    assert type(MetricStore().make_timer()) is Timer
    without_buckets = MetricStore()
    without_buckets.sampled = lambda: SAMPLED
    assert type(without_buckets.make_timer()) is Timer
    without_traces = MetricStore()
    without_traces.timer_bounds = (1.0,)
    assert type(without_traces.make_timer()) is Timer
    assert type(store().make_timer()) is SampledTimer


@pytest.mark.parametrize(
    ("accept", "gains", "wanted"),
    [
        ("", True, False),
        ("text/plain", True, False),
        ("*/*", True, False),
        ("application/openmetrics-text", False, True),
        ("application/openmetrics-text;q=0", True, False),
        ("application/openmetrics-text;q=nonsense", True, False),
        (PROMETHEUS, True, True),
        (PROMETHEUS, False, False),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.1", True, False),
    ],
)
def test_it_is_given_to_who_asks_and_has_something_from_it(accept, gains, wanted):
    assert openmetrics.wanted(accept, gains=gains) is wanted


def test_a_part_that_something_follows_has_no_mark_of_the_end():
    assert not openmetrics.exposition(store(), whole=False)
    assert openmetrics.exposition(store()) == b"# EOF\n"
