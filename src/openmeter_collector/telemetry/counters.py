"""Counters, gauges and timers, and their Prometheus text.

Names and labels are those that users of the collector have on their dashboards: unprefixed, no
`_total`, `label` and `path` on everything that belongs to a component, timers as summaries in
nanoseconds. That is why this is not `prometheus_client`, which renames counters; its process
figures are used as they are.

Handles are fetched once, when a component opens, and then cost one addition per use. Values are only
touched from the event loop's thread, except `Gauge` functions, which read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

QUANTILES = (0.5, 0.9, 0.99)
_WINDOW = 512


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1) -> None:
        """Grow by `amount`, which must not be negative."""
        self.value += amount


class Gauge:
    """A number that is what it was last set to, or what a function says when asked."""

    __slots__ = ("function", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.function: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """Say what it is now."""
        self.value = value

    def read(self) -> float:
        """What it is now."""
        return self.value if self.function is None else self.function()


@dataclass(frozen=True, slots=True)
class Sampled:
    """A trace that is sent somewhere, at a moment in which something was measured in it.

    Attributes:
        trace_id: as in a `traceparent` header, in hex; `span_id` too.
        time: Unix seconds.
    """

    trace_id: str
    span_id: str
    time: float


class Timer:
    """Observations in nanoseconds with count, sum and quantiles over the last few hundred; with
    buckets of seconds as well when a histogram is wanted.

    The quantiles of a summary are a view of the recent past, not of the whole life; a ring of the
    last 512 observations gives that at the price of one list store per observation.
    """

    __slots__ = ("_next", "_ring", "buckets", "count", "total")

    def __init__(self, bounds: tuple[float, ...] | None = None) -> None:
        self.count = 0
        self.total = 0.0
        self.buckets = None if bounds is None else Histogram(bounds)
        self._ring: list[float] = []
        self._next = 0

    def observe(self, value: float) -> None:
        """Note one observation, in the unit its name states (`_ns`: nanoseconds)."""
        self.count += 1
        self.total += value
        if self.buckets is not None:
            self.buckets.observe(value / 1e9)
        if len(self._ring) < _WINDOW:
            self._ring.append(value)
        else:
            self._ring[self._next] = value
            self._next = (self._next + 1) % _WINDOW

    def begin(self) -> Callable[[float], None]:
        """What to tell of something that begins now, and may end anywhere."""
        return self.observe

    def latest(self, most: int) -> list[float]:
        """The last observations, the oldest of them first; not more than are kept."""
        newest_first = [*reversed(self._ring[: self._next]), *reversed(self._ring[self._next :])]
        return newest_first[:most][::-1]

    def quantiles(self, wanted: Iterable[float] = QUANTILES) -> list[tuple[float, float]]:
        """Quantile and its value, over the recent past; empty before the first observation."""
        if not self._ring:
            return []
        ordered = sorted(self._ring)
        last = len(ordered) - 1
        return [(q, ordered[min(last, int(q * len(ordered)))]) for q in wanted]


class SampledTimer(Timer):
    """A timer with buckets that keep an example: the latest trace in which something took that long.

    A class of its own, so that timers cost nothing more where there are no traces.
    """

    __slots__ = ("_sampled",)

    def __init__(self, bounds: tuple[float, ...], sampled: Callable[[], Sampled | None]) -> None:
        super().__init__(bounds)
        self._sampled = sampled

    def observe(self, value: float) -> None:
        """Note one observation, of the trace the caller is in."""
        self._note(value, self._sampled())

    def begin(self) -> Callable[[float], None]:
        """What to tell of something that begins now, in this trace."""
        sampled = self._sampled()
        return lambda value: self._note(value, sampled)

    def _note(self, value: float, sampled: Sampled | None) -> None:
        super().observe(value)
        if sampled is not None and self.buckets is not None:
            self.buckets.keep_example(value / 1e9, sampled)


class Histogram:
    """Observations counted in buckets.

    Attributes:
        examples: of a bucket, by its index: an observation and the trace it was made in.
    """

    __slots__ = ("bounds", "counts", "examples", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.examples: dict[int, tuple[float, Sampled]] = {}

    def observe(self, value: float) -> None:
        """Note one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def keep_example(self, value: float, sampled: Sampled) -> None:
        """Keep the trace of an observation that was noted; the latest of each bucket stays."""
        self.examples[bisect_left(self.bounds, value)] = value, sampled


Child = Counter | Gauge | Timer | Histogram
Rewrite = Callable[[str, Mapping[str, str]], tuple[str, Mapping[str, str]] | None]
_KIND = {
    Counter: "counter",
    Gauge: "gauge",
    Timer: "summary",
    SampledTimer: "summary",
    Histogram: "histogram",
}


class _Family:
    __slots__ = ("children", "doc", "kind")

    def __init__(self, kind: type[Child], doc: str) -> None:
        self.kind = kind
        self.doc = doc
        self.children: dict[tuple[tuple[str, str], ...], Child] = {}


class MetricStore:
    """All metrics of one process, a value that is passed around; there is no global one.

    Attributes:
        rewrite: told name and labels of each metric when it is first used; says what they shall be,
            or None to leave the metric out. Set it, and the two below, before metrics are used.
        timer_bounds: timers are histograms with these bounds, in seconds; None for summaries.
        quantiles: those that summaries show.
        sampled: the trace that the caller is in, if that is sent; None when there are no traces.
    """

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._rewritten: dict[tuple[str, tuple[tuple[str, str], ...]], Child] = {}
        self.rewrite: Rewrite | None = None
        self.timer_bounds: tuple[float, ...] | None = None
        self.quantiles: tuple[float, ...] = QUANTILES
        self.sampled: Callable[[], Sampled | None] | None = None

    def scope(self, **labels: str) -> Metrics:
        """Handles that carry `labels` on everything."""
        return Metrics(self, labels)

    def child(
        self,
        kind: type[Child],
        name: str,
        doc: str,
        labels: Mapping[str, str],
        make: Callable[[], Child],
    ) -> Child:
        """The one child of `name` with exactly these labels.

        Raises:
            ValueError: the name is in use for another kind of metric.
        """
        if self.rewrite is not None:
            return self._child_rewritten(self.rewrite, kind, name, doc, labels, make)
        return self._child(kind, name, doc, labels, make)

    def _child_rewritten(
        self,
        rewrite: Rewrite,
        kind: type[Child],
        name: str,
        doc: str,
        labels: Mapping[str, str],
        make: Callable[[], Child],
    ) -> Child:
        key = name, tuple(sorted(labels.items()))
        found = self._rewritten.get(key)
        if found is None:
            renamed = rewrite(name, labels)
            # What is left out still counts for whoever holds the handle; nobody sees it.
            found = (
                make() if renamed is None else self._child(kind, renamed[0], doc, renamed[1], make)
            )
            self._rewritten[key] = found
        if _KIND[type(found)] != _KIND[kind]:
            raise ValueError(f"metric {name} is a {_KIND[type(found)]}, not a {_KIND[kind]}")
        return found

    def _child(
        self,
        kind: type[Child],
        name: str,
        doc: str,
        labels: Mapping[str, str],
        make: Callable[[], Child],
    ) -> Child:
        family = self._families.setdefault(name, _Family(kind, doc))
        if family.kind is not kind:
            raise ValueError(f"metric {name} is a {_KIND[family.kind]}, not a {_KIND[kind]}")
        key = tuple(sorted(labels.items()))
        found = family.children.get(key)
        if found is None:
            found = family.children[key] = make()
        return found

    def make_timer(self) -> Timer:
        """A timer as this store keeps them."""
        if self.timer_bounds is not None and self.sampled is not None:
            return SampledTimer(self.timer_bounds, self.sampled)
        return Timer(self.timer_bounds)

    def forget(self, **labels: str) -> None:
        """Show no metric any more that carries these labels; handles to them still work."""
        gone = set(labels.items())
        for family in self._families.values():
            for key in [key for key in family.children if gone <= set(key)]:
                del family.children[key]
        for known in [known for known in self._rewritten if gone <= set(known[1])]:
            del self._rewritten[known]

    def total(self, name: str) -> float:
        """The sum of all children of a counter or gauge; 0 when there is none."""
        family = self._families.get(name)
        if family is None:
            return 0.0
        return sum(_number(child) for child in family.children.values())

    def children(self) -> Iterator[tuple[str, Mapping[str, str], Child]]:
        """(name, labels, the metric itself) of everything, in order of first use."""
        for name, family in self._families.items():
            for key, child in family.children.items():
                yield name, dict(key), child

    def families(self) -> Iterator[tuple[str, str, str, list[tuple[Mapping[str, str], Child]]]]:
        """(name, kind, what it is, its metrics with their labels) of everything, in order of first use.

        Kinds are those of the text format. A timer with buckets is given as its histogram in seconds.
        """
        for name, family in self._families.items():
            histogram = family.kind is Timer and self.timer_bounds is not None
            kind = "histogram" if histogram else _KIND[family.kind]
            yield (
                name,
                kind,
                family.doc,
                [(dict(key), _shown(child)) for key, child in family.children.items()],
            )

    def samples(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """(family, sample name, labels, value) of everything, in order of first use."""
        for name, family in self._families.items():
            for key, child in family.children.items():
                yield from _samples(name, dict(key), child, self.quantiles)

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        lines: list[str] = []
        for name, kind, doc, children in self.families():
            if doc:
                lines.append(f"# HELP {name} {_escape_help(doc)}")
            lines.append(f"# TYPE {name} {kind}")
            for labels, child in children:
                for _, sample, shown, value in _samples(name, labels, child, self.quantiles):
                    lines.append(f"{sample}{label_text(shown)} {value_text(value)}")
        lines.append("")
        return "\n".join(lines).encode()


class Metrics:
    """Makes metrics that carry a fixed set of labels."""

    __slots__ = ("_known", "_labels", "_rewrites", "_store")

    def __init__(
        self, store: MetricStore, labels: Mapping[str, str], rewrites: Sequence[Rewrite] = ()
    ) -> None:
        self._store = store
        self._labels = dict(labels)
        self._rewrites = rewrites
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], Child] = {}

    @property
    def store(self) -> MetricStore:
        """Where they are kept."""
        return self._store

    def renamed(self, rewrites: Sequence[Rewrite]) -> Metrics:
        """The same, with names and labels that pass through all of these first, in order."""
        return Metrics(self._store, self._labels, rewrites)

    def counter(self, name: str, doc: str = "", /, **labels: str) -> Counter:
        """The counter `name` for these labels."""
        made = self._child(Counter, name, doc, labels, Counter)
        assert isinstance(made, Counter)
        return made

    def gauge(
        self,
        name: str,
        doc: str = "",
        /,
        function: Callable[[], float] | None = None,
        **labels: str,
    ) -> Gauge:
        """The gauge `name`; with `function` it is asked at every scrape."""
        made = self._child(Gauge, name, doc, labels, Gauge)
        assert isinstance(made, Gauge)
        if function is not None:
            made.function = function
        return made

    def timer(self, name: str, doc: str = "", /, **labels: str) -> Timer:
        """The timer `name`."""
        made = self._child(Timer, name, doc, labels, self._store.make_timer)
        assert isinstance(made, Timer)
        return made

    def histogram(self, name: str, doc: str, bounds: tuple[float, ...], **labels: str) -> Histogram:
        """The histogram `name`, with upper bounds of its buckets in ascending order."""
        made = self._child(Histogram, name, doc, labels, lambda: Histogram(bounds))
        assert isinstance(made, Histogram)
        return made

    def _child(
        self,
        kind: type[Child],
        name: str,
        doc: str,
        more: Mapping[str, str],
        make: Callable[[], Child],
    ) -> Child:
        labels: Mapping[str, str] = self._labels | dict(more)
        if not self._rewrites:
            return self._store.child(kind, name, doc, labels, make)
        key = name, tuple(sorted(more.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._rewritten(kind, name, doc, labels, make)
        return found

    def _rewritten(
        self,
        kind: type[Child],
        name: str,
        doc: str,
        labels: Mapping[str, str],
        make: Callable[[], Child],
    ) -> Child:
        for rewrite in self._rewrites:
            renamed = rewrite(name, labels)
            if renamed is None:
                return make()  # it still counts for whoever holds the handle; nobody sees it
            name, labels = renamed
        return self._store.child(kind, name, doc, labels, make)


def _number(child: Child) -> float:
    if isinstance(child, Counter):
        return child.value
    return child.read() if isinstance(child, Gauge) else 0.0


def _shown(child: Child) -> Child:
    return child.buckets or child if isinstance(child, Timer) else child


def _samples(
    name: str, labels: Mapping[str, str], child: Child, quantiles: Iterable[float]
) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
    child = _shown(child)
    if isinstance(child, Timer):
        for quantile, value in child.quantiles(quantiles):
            yield name, name, {**labels, "quantile": str(quantile)}, value
        yield name, f"{name}_sum", labels, child.total
        yield name, f"{name}_count", labels, child.count
    elif isinstance(child, Histogram):
        running = 0
        for bound, count in zip((*child.bounds, float("inf")), child.counts, strict=True):
            running += count
            yield name, f"{name}_bucket", {**labels, "le": value_text(bound)}, running
        yield name, f"{name}_sum", labels, child.total
        yield name, f"{name}_count", labels, running
    else:
        yield name, name, labels, _number(child)


def value_text(value: float) -> str:
    """A number as the text formats write it."""
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


def label_text(labels: Mapping[str, str]) -> str:
    """Labels as the text formats write them, with their braces."""
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
