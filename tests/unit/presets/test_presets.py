"""Every preset: it lints, its own tests pass, it has a page, and the command line knows it."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.main import cli
from openmeter_collector.errors import ConfigError
from openmeter_collector.presets import preset, presets

OVERVIEW = Path(__file__).parents[3] / "docs/guide/presets.md"
ALL = presets()
each = pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)


def page_of(one):
    (page,) = re.findall(rf"^\| \[{one.name}\]\(([^)]+)\)", OVERVIEW.read_text(), re.MULTILINE)
    return (OVERVIEW.parent / page).read_text()


def ran(*arguments):
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


@each
def test_a_preset_lints_and_its_own_tests_pass(one):
    assert ran("lint", "--skip-env-var-check", str(one.path)).return_value == 0
    result = ran("test", str(one.path))
    assert result.return_value == 0, result.output
    assert "succeeded" in result.output, "it has tests"


@each
def test_a_preset_says_what_it_is_for_and_has_a_page(one):
    assert one.summary.endswith(".")
    assert re.search(rf"--preset {one.name}\b", page_of(one))


@each
def test_the_variables_of_a_preset_are_on_its_page(one):
    told = page_of(one) + OVERVIEW.read_text()
    names = set(re.findall(r"\$\{([A-Z0-9_]+)[:}]", one.path.read_text()))
    assert sorted(name for name in names if f"`{name}`" not in told) == []


def test_presets_are_listed():
    assert json.loads(ran("list", "presets", "--format", "json").output)["presets"] == {
        one.name: one.summary for one in ALL
    }
    assert ran("list", "presets").output.splitlines()[0].startswith(f"{ALL[0].name} ")


def test_a_preset_is_printed_to_be_changed():
    path = preset("http-server").path
    assert ran("create", "--preset", "http-server").output == path.read_text()


@pytest.mark.parametrize("name", ["nowhere", "../presets/otel", ""])
def test_a_preset_that_is_not_there_is_named_with_those_that_are(name):
    with pytest.raises(ConfigError, match=r"there is no preset .*; known: .*http-server, "):
        preset(name)
