"""The documentation as a site, and the code that stands in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ASKS = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_has_every_page(site):
    missing = [
        str(page.relative_to(ROOT))
        for page in PAGES
        if not (site / page.relative_to(ROOT / "docs").with_suffix(".html")).exists()
        and page.name != "README.md"
    ]
    assert missing == []


def test_no_page_asks_another_host_for_anything(site):
    asked = {
        found
        for page in site.rglob("*.html")
        for found in _ASKS.findall(page.read_text())
        if 'rel="canonical"' not in found
    }
    assert asked == set()


@pytest.mark.parametrize(
    "page", [one for one in PAGES if "```python" in one.read_text()], ids=lambda one: one.name
)
def test_python_in_a_page_compiles(page):
    for code in _BLOCK.findall(page.read_text()):
        flags = 0x2000  # await outside of functions is fine in an example
        compile(code, str(page), "exec", flags=flags, dont_inherit=True)


def test_every_metric_of_an_alert_is_explained():
    page = (ROOT / "docs/reference/metric-names.md").read_text()
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    used = {
        word
        for group in rules["groups"]
        for rule in group["rules"]
        for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b(?=[^(]|$)", rule["expr"])
    }
    assert len(used) > 8
    assert [name for name in used if f"`{name}`" not in page and name != "predict_linear"] == []


def test_what_to_do_about_every_metric_and_alert_is_told():
    told = set(
        re.findall(
            r"`(\w+)`",
            "".join(
                line.split("|")[1]
                for line in (ROOT / "docs/operations/alerts.md").read_text().splitlines()
                if line.startswith("|")
            ),
        )
    )
    metrics = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs/reference/metric-names.md").read_text(), re.MULTILINE
    )
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert len(metrics) > 70
    assert len(alerts) > 10
    assert told == {*metrics, *alerts}
