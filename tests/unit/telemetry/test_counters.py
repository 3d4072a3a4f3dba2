"""Metrics: names as dashboards know them, text as Prometheus reads it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from openmeter_collector.telemetry.counters import MetricStore


def samples(store: MetricStore) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus reads; its Python parser gives counters the ending they have in OpenMetrics."""
    text = store.exposition().decode()
    return {
        (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_keeps_its_name_and_labels():
    """Dashboards of existing installations look for `input_received`, not `..._total`."""
    store = MetricStore()
    metrics = store.scope(label="a", path="root.input")
    metrics.counter("input_received").add(3)
    metrics.counter("input_received").add()
    assert samples(store) == {("input_received", (("label", "a"), ("path", "root.input"))): 4.0}


def test_the_same_labels_are_the_same_counter_whatever_their_order():
    store = MetricStore()
    first = store.scope(a="1", b="2").counter("x")
    assert store.scope(b="2", a="1").counter("x") is first


def test_a_name_has_one_kind():
    metrics = MetricStore().scope()
    metrics.counter("x")
    with pytest.raises(ValueError, match="x is a counter, not a gauge"):
        metrics.gauge("x")


def test_a_gauge_can_ask_when_it_is_looked_at():
    store = MetricStore()
    now = [1.0]
    store.scope().gauge("depth", "How deep.", lambda: now[0])
    now[0] = 7.5
    assert samples(store)["depth", ()] == 7.5


def test_a_timer_is_a_summary_with_quantiles_of_the_recent_past():
    store = MetricStore()
    timer = store.scope().timer("took_ns")
    for value in range(1, 2001):
        timer.observe(value)
    found = samples(store)
    assert found["took_ns_count", ()] == 2000
    assert found["took_ns_sum", ()] == 2000 * 2001 / 2
    median = found["took_ns", (("quantile", "0.5"),)]
    assert 1700 < median < 1800, "of the last 512, not of all"


def test_a_histogram_counts_up_to_each_bound():
    store = MetricStore()
    histogram = store.scope().histogram("size", "Sizes.", (1.0, 10.0))
    for value in (0.5, 1.0, 5.0, 100.0):
        histogram.observe(value)
    found = samples(store)
    assert found["size_bucket", (("le", "1"),)] == 2
    assert found["size_bucket", (("le", "10"),)] == 3
    assert found["size_bucket", (("le", "+Inf"),)] == 4
    assert found["size_count", ()] == 4


def test_labels_and_help_are_escaped():
    store = MetricStore()
    store.scope(label='a"b\\c\nd').counter("x", "one\ntwo").add()
    assert samples(store) == {("x", (("label", 'a"b\\c\nd'),)): 1.0}
