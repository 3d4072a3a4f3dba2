"""Alert rules and dashboards speak of metrics that exist, and say what they mean to say."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from kit.needs import require

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
SOURCE = ROOT / "src/openmeter_collector"
_DECLARED = re.compile(r"\.(?:counter|gauge|timer|histogram)\(\s*\"([a-z_0-9]+)\"")
_WORDS = {
    "sum", "by", "max", "min", "rate", "increase", "or", "and", "vector", "offset", "predict_linear",
    "histogram_quantile", "count", "quantile", "on",
}  # fmt: skip


@pytest.fixture(scope="module")
def metrics():
    return {name for path in SOURCE.rglob("*.py") for name in _DECLARED.findall(path.read_text())}


def names_in(expression):
    """Metrics of a PromQL expression: words that are no functions, labels or strings."""
    text = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]", " ", expression)
    text = re.sub(r"\bby\s*\([^)]*\)", " ", text)
    words = set(re.findall(r"(?<![a-z0-9_])[a-z_][a-z_0-9]*", text)) - _WORDS
    return {re.sub(r"_(bucket|sum|count)$", "", word) for word in words if len(word) > 1}


def rules():
    (group,) = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    return group["rules"]


def test_the_rules_do_what_their_tests_say():
    promtool = require("promtool")
    for command in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")):
        done = subprocess.run(
            [promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tested():
    tests = (PROMETHEUS / "rules_test.yaml").read_text()
    assert [one["alert"] for one in rules() if tests.count(one["alert"]) < 2] == []


def test_rules_name_metrics_that_the_collector_has(metrics):
    for one in rules():
        assert names_in(one["expr"]) <= metrics, one["alert"]


def test_every_rule_says_what_to_do():
    for one in rules():
        assert one["labels"]["severity"] in {"critical", "warning"}
        assert len(one["annotations"]["description"].split()) > 8
    # Money first.
    severities = [one["labels"]["severity"] for one in rules()]
    assert severities == sorted(severities)


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dashboard_is_what_its_source_makes(generator):
    assert (GRAFANA / "collector.json").read_text() == generator.text()


def test_panels_show_metrics_that_the_collector_has(generator, metrics):
    panels = [one for one in generator.dashboard()["panels"] if one["type"] != "row"]
    assert len(panels) > 12
    for panel in panels:
        for target in panel["targets"]:
            assert "METRIC" not in target["expr"]
            found = names_in(target["expr"].replace("$__rate_interval", "5m"))
            assert found, target["expr"]
            assert found <= metrics, panel["title"]


def test_panels_do_not_cover_each_other(generator):
    taken = set()
    for panel in generator.dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_expressions_of_panels_are_promql(generator, tmp_path):
    promtool = require("promtool")
    expressions = [
        target["expr"].replace("$__rate_interval", "5m")
        for panel in generator.dashboard()["panels"]
        for target in panel.get("targets", ())
    ]
    file = tmp_path / "rules.yaml"
    record = [{"record": f"a{at}", "expr": text} for at, text in enumerate(expressions)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": record}]}))
    done = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
