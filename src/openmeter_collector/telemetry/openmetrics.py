"""OpenMetrics text, for those who ask for it: what the Prometheus text cannot say is examples of traces.

Names stay those of the other format. OpenMetrics wants counters to end in `_total`; ours do not, and
dashboards know them as they are, so such a counter is of the type `unknown` here, which is the same
to whoever reads its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from openmeter_collector.telemetry.counters import (
    Child,
    Counter,
    Gauge,
    Histogram,
    MetricStore,
    Sampled,
    Timer,
    label_text,
    value_text,
)

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TYPE: Final = "application/openmetrics-text"
_TOTAL: Final = "_total"


def wanted(accept: str, *, gains: bool) -> bool:
    """Whether an `Accept` header is best answered with OpenMetrics.

    Args:
        gains: there may be something in it that the plain text would not say. Who takes both gets the
            plain text otherwise: labels of buckets are written differently in the two.
    """
    takes = {kind: quality for kind, quality in map(_quality, accept.split(",")) if quality > 0}
    if _TYPE not in takes:
        return False
    plain = max((takes.get(kind, 0.0) for kind in ("text/plain", "text/*", "*/*")), default=0.0)
    return not plain or (gains and takes[_TYPE] >= plain)


def has_examples(store: MetricStore) -> bool:
    """Whether there may be examples of traces."""
    return store.sampled is not None and store.timer_bounds is not None


def exposition(store: MetricStore, *, whole: bool = True) -> bytes:
    """All metrics of a store.

    Args:
        whole: nothing comes after it; else the end is not marked.
    """
    lines: list[str] = []
    for name, kind, doc, children in store.families():
        family = name.removesuffix(_TOTAL) if kind == "counter" else name
        shown = "unknown" if kind == "counter" and family == name else kind
        lines.append(f"# TYPE {family} {shown}")
        if doc:
            lines.append(f"# HELP {family} {_escaped(doc)}")
        for labels, child in children:
            lines += _lines(name, labels, child, store.quantiles)
    if whole:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(
    name: str, labels: Mapping[str, str], child: Child, quantiles: tuple[float, ...]
) -> Iterator[str]:
    if isinstance(child, Histogram):
        running = 0
        for index, count in enumerate(child.counts):
            running += count
            bound = child.bounds[index] if index < len(child.bounds) else float("inf")
            shown = label_text({**labels, "le": _bound(bound)})
            yield f"{name}_bucket{shown} {running}{_example(child.examples.get(index))}"
        yield f"{name}_sum{label_text(labels)} {value_text(child.total)}"
        yield f"{name}_count{label_text(labels)} {running}"
    elif isinstance(child, Timer):
        for quantile, value in child.quantiles(quantiles):
            shown = label_text({**labels, "quantile": _bound(quantile)})
            yield f"{name}{shown} {value_text(value)}"
        yield f"{name}_sum{label_text(labels)} {value_text(child.total)}"
        yield f"{name}_count{label_text(labels)} {child.count}"
    else:
        assert isinstance(child, Counter | Gauge)
        value = child.value if isinstance(child, Counter) else child.read()
        yield f"{name}{label_text(labels)} {value_text(value)}"


def _example(kept: tuple[float, Sampled] | None) -> str:
    if kept is None:
        return ""
    value, sampled = kept
    ids = label_text({"trace_id": sampled.trace_id, "span_id": sampled.span_id})
    return f" # {ids} {value!r} {sampled.time:.3f}"


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(float(value))


def _quality(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.split(";"))
    quality = 1.0
    for one in parameters:
        key, _, value = one.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return kind.lower(), quality


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
