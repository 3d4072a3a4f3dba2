"""Writes the dashboards from the one list of panels below: `./dev python deploy/grafana/generate.py`.

A test compares the files with what this makes, and every metric in it with those the collector has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHART = HERE.parent / "helm" / "openmeter-collector" / "files"
WHERE = '{namespace=~"$namespace",instance=~"$instance"}'

# Rows of panels: title, kind, unit, and queries as (legend, PromQL). METRIC[...] is a metric of the instances chosen.
ROWS: list[tuple[str, list[tuple[str, str, str, list[tuple[str, str]]]]]] = [
    ("Is anything lost or late?", [
        ("Oldest undelivered event", "stat", "s", [("", "max(METRIC[journal_oldest_age_seconds])")]),
        ("Dead letters", "stat", "short", [("", "sum(METRIC[journal_dead_letters])")]),
        ("Lost windows", "stat", "short", [("", "sum(METRIC[gaps_impossible]) or vector(0)")]),
        ("Missing windows", "stat", "short", [("", "sum(METRIC[gaps_open]) or vector(0)")]),
        ("Journal writable", "stat", "short", [("", "min(METRIC[journal_writable])")]),
        ("Leaders", "stat", "short", [("", "sum(METRIC[leader]) or vector(0)")]),
    ]),
    ("Flow", [
        ("Events a second", "timeseries", "short", [
            ("received {{label}} {{path}}", "sum by (label, path) (rate(METRIC[input_received][$__rate_interval]))"),
            ("delivered {{label}} {{path}}", "sum by (label, path) (rate(METRIC[output_sent][$__rate_interval]))"),
        ]),
        ("Failures a second", "timeseries", "short", [
            ("output {{label}} {{path}}", "sum by (label, path) (rate(METRIC[output_error][$__rate_interval]))"),
            ("refused {{label}} {{path}}", "sum by (label, path) (rate(METRIC[output_rejected][$__rate_interval]))"),
            ("processor {{label}} {{path}}", "sum by (label, path) (rate(METRIC[processor_error][$__rate_interval]))"),
        ]),
        ("Time of a write (p99)", "timeseries", "ns", [
            ("{{label}} {{path}}", 'max by (label, path) (METRIC[output_latency_ns;quantile="0.99"])'),
        ]),
        ("Connections lost", "timeseries", "short", [
            ("input {{label}} {{path}}", "sum by (label, path) (increase(METRIC[input_connection_lost][$__rate_interval]))"),
            ("output {{label}} {{path}}", "sum by (label, path) (increase(METRIC[output_connection_lost][$__rate_interval]))"),
        ]),
    ]),
    ("Journal", [
        ("Events waiting", "timeseries", "short", [("{{instance}}", "METRIC[journal_events]")]),
        ("Bytes waiting, and free", "timeseries", "bytes", [
            ("waiting {{instance}}", "METRIC[journal_bytes]"),
            ("free {{instance}}", "METRIC[journal_free_bytes]"),
        ]),
        ("Time of a commit (p99)", "timeseries", "s", [
            ("{{instance}}", "histogram_quantile(0.99, sum by (instance, le) (rate(METRIC[journal_fsync_seconds_bucket][$__rate_interval])))"),
        ]),
        ("Events in a commit", "timeseries", "short", [
            ("{{instance}}", "rate(METRIC[journal_commit_events_sum][$__rate_interval]) / rate(METRIC[journal_commit_events_count][$__rate_interval])"),
        ]),
    ]),
    ("Sources that are read", [
        ("Age of the oldest open window", "timeseries", "s", [("{{instance}} {{windows}}", "METRIC[window_lag_seconds]")]),
        ("Windows", "timeseries", "short", [
            ("done {{windows}}", "sum by (windows) (increase(METRIC[windows_done][$__rate_interval]))"),
            ("failed {{windows}}", "sum by (windows) (increase(METRIC[windows_failed][$__rate_interval]))"),
        ]),
        ("Log that replication slots keep", "timeseries", "bytes", [("{{instance}} {{label}}", "METRIC[postgres_cdc_lag_bytes]")]),
    ]),
]  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({"type": "row", "title": title, "id": len(panels) + 1, "collapsed": False,
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})  # fmt: skip
        y += 1
        small = all(kind == "stat" for _, kind, _, _ in row)
        width, height = (24 // len(row), 4) if small else (12, 8)
        for at, (name, kind, unit, queries) in enumerate(row):
            x = at * width % 24
            panels.append(_panel(len(panels) + 1, name, kind, unit, queries))
            panels[-1]["gridPos"] = {"h": height, "w": width, "x": x, "y": y}
            if x + width >= 24 and at + 1 < len(row):
                y += height
        y += height
    return {
        "uid": "openmeter-collector",
        "title": "OpenMeter Collector",
        "tags": ["openmeter"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _variable("namespace"), _variable("instance")]},
        "panels": panels,
    }


def _panel(
    number: int, title: str, kind: str, unit: str, queries: list[tuple[str, str]]
) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + at), "expr": _expression(text), "legendFormat": legend or "__auto"}
        for at, (legend, text) in enumerate(queries)
    ]
    return {
        "id": number,
        "type": kind,
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _expression(text: str) -> str:
    made, rest = "", text
    while "METRIC[" in rest:
        before, _, rest = rest.partition("METRIC[")
        name, _, rest = rest.partition("]")
        metric, _, more = name.partition(";")
        made += f"{before}{metric}{WHERE[:-1]}{',' + more if more else ''}}}"
    return made + rest


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _variable(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values(journal_events, {label})",
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    """What is in the file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    for folder in (HERE, CHART):
        (folder / "collector.json").write_text(text())
