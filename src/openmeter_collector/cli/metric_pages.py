"""The page of all metrics, read from the places where they are made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

_KINDS: Final = {
    "counter": "counter",
    "gauge": "gauge",
    "timer": "summary in nanoseconds (or histogram in seconds, see the metrics component)",
    "histogram": "histogram",
}


@dataclass(frozen=True, slots=True, order=True)
class MetricMade:
    """One place that makes a metric."""

    name: str
    kind: str
    doc: str
    labels: tuple[str, ...]


def page() -> str:
    """The page, in Markdown."""
    merged: dict[str, MetricMade] = {}
    for made in sorted(set(_all())):
        known = merged.get(made.name)
        labels = tuple(sorted({*made.labels, *(known.labels if known else ())}))
        doc = made.doc or (known.doc if known else "")
        merged[made.name] = MetricMade(made.name, made.kind, doc, labels)
    lines = [
        "# Names of metrics",
        "",
        "Generated from the components themselves; do not edit. All carry the labels `label` and `path` of",
        "the component they belong to, and `stream` in streams mode; names that end in `_ns` are times.",
        "Caches count `cache_success`, `cache_error`, `cache_not_found` and `cache_duplicate` by `operation`.",
        "What to be woken by, and what to do about each: [metrics and alerts](../operations/alerts.md).",
        "",
        "| metric | kind | more labels | what it counts |",
        "| --- | --- | --- | --- |",
    ]
    for one in merged.values():
        more = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.name}` | {_KINDS[one.kind]} | {more} | {one.doc} |")
    return "\n".join([*lines, ""])


def _all() -> Iterator[MetricMade]:
    for file in _sources(resources.files("openmeter_collector")):
        yield from _made_in(ast.parse(file.read_text("utf-8")))


def _sources(folder: Traversable) -> Iterator[Traversable]:
    for one in folder.iterdir():
        if one.is_dir() and one.name not in {"testing", "__pycache__"}:
            yield from _sources(one)
        elif one.name.endswith(".py"):
            yield one


def _made_in(tree: ast.Module) -> Iterator[MetricMade]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        kind = node.func.attr
        texts = [_text(argument) for argument in node.args[:2]]
        # A metric is named and explained where it is made; other methods of these names are not.
        if kind in _KINDS and len(texts) == 2 and all(texts):
            labels = tuple(sorted(word.arg for word in node.keywords if word.arg))
            yield MetricMade(str(texts[0]), kind, str(texts[1]), labels)


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
