"""The table of differences, and what of it concerns a config."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.compare_upstream import compare_upstream
from openmeter_collector.cli.docs import spliced
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config.upstream import AREAS, DIFFERENCES, concerning, markdown
from openmeter_collector.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(text, *arguments):
        (tmp_path / "c.yaml").write_text(text)
        result = CliRunner().invoke(compare_upstream, ["c.yaml", *arguments], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.return_value, result.stdout

    return call


@pytest.mark.parametrize("one", DIFFERENCES, ids=lambda one: f"{one.about}: {one.title}")
def test_a_difference_is_about_something_there_is_and_says_all(one):
    kind, _, name = one.about.partition(" ")
    assert one.about in AREAS or standard_registry().has(kind, name)
    assert all((one.title, one.there, one.here, one.why))
    assert "|" not in one.title + one.there + one.here + one.why + one.act


def test_the_guide_holds_the_whole_table():
    page = (ROOT / "docs" / "guide" / "migrate.md").read_text()
    assert markdown() in page
    assert spliced(page, markdown()) == page
    assert spliced("no marks", "x") == "no marks"


def test_only_what_concerns_a_config_is_told(run):
    text = "input: {http_server: {}}\noutput: {drop_on: {error: true, output: {drop: {}}}}\n"
    code, out = run(text)
    assert code == 0
    assert "input http_server\n" in out
    assert "output drop_on\n" in out
    assert "sqlite" not in out
    assert f"{sum(one.about in AREAS for one in DIFFERENCES)} more concern every config" in out
    code, out = run(text, "--all")
    assert "a key that is given twice" in out
    assert run("output: {drop: {}}\n")[1].splitlines()[2] == "Its components do the same here."


def test_components_inside_others_count(run):
    text = "output: {fallback: [{retry: {output: {openmeter: {url: 'http://x'}}}}, {drop: {}}]}\n"
    assert "output openmeter" in run(text)[1]
    assert concerning([("output", "openmeter")])


def test_what_is_known_on_one_side_only_is_told_with_its_place(run):
    text = "input: {cloudevents: {}}\noutput:\n  openmeter: {url: 'http://x', timeout: 3s}\n"
    code, out = run(text)
    assert code == 0
    assert "  c.yaml:1 root.input: input 'cloudevents' is known to this collector only\n" in out
    assert "  c.yaml:3 root.output.openmeter.timeout: field 'timeout' is known" in out
    code, out = run("input: {planet: {}}\n", "--json")
    assert code == 1
    (absent,) = json.loads(out)["not_here"]
    assert (absent["line"], absent["text"]) == (1, "there is no input 'planet'")


@pytest.mark.parametrize("text", ["input: 5", "a: [1", "- 1"])
def test_of_what_cannot_be_read_nothing_is_claimed(run, text):
    with pytest.raises(ConfigError):
        run(text)
