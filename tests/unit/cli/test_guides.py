"""What the guides show works: blocks of YAML lint, tests in them pass, commands exist."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.lint import blocks, check
from openmeter_collector.cli.main import COMMANDS, cli
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config.templates import lint_template
from openmeter_collector.config.unit_tests import definition_of
from openmeter_collector.testing.unit_tests import run_tests

DOCS = Path(__file__).parents[3] / "docs"
GUIDES = sorted((DOCS / "guide").glob("*.md"))
# Blocks of `sources` that are no configs have titles; `tests/docs/test_sources.py` runs the configs.
PAGES = [*GUIDES, *sorted((DOCS / "operations").glob("*.md")), *sorted(DOCS.glob("*.md"))]


class Anything(dict):
    """Every variable that a guide names is set."""

    def __contains__(self, name):
        return True

    def __missing__(self, name):
        return "aGFzaA=="

    def get(self, name, default=None):
        return self[name]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_config_in_a_guide_lints(path):
    problems = check(path, standard_registry(), Anything(os.environ))
    # A list alone is a part of a config, shown as such.
    told = [one for one in problems if one.severity == "error" and "got !!seq" not in one.message]
    assert [one.friendly() for one in told] == []


async def test_the_unit_test_and_the_template_of_the_guide_pass(tmp_path):
    page = (GUIDES[0].parent / "commands.md").read_text()
    (text,) = [text for _, text in blocks(page) if "tests:" in text]
    (tmp_path / "config.yaml").write_text(text)
    outcome = await run_tests(definition_of(tmp_path / "config.yaml"), standard_registry())
    assert (outcome.cases, outcome.failed, outcome.broken) == (1, [], "")
    (text,) = re.findall(r"```text\n(name: .*?)```", page, re.DOTALL)
    (tmp_path / "template.yaml").write_text(text)
    assert lint_template(tmp_path / "template.yaml", standard_registry(), {}) == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name):
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 5
    assert "\\b" not in shown.output


@pytest.mark.parametrize("name", ["run", "streams", "lint", "test", "init", "doctor", "schema"])
def test_examples_are_lines_of_their_own(name):
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    _, _, examples = shown.partition("  Examples:\n")
    assert examples.startswith("    openmeter-collector ")


def test_the_guide_names_every_command():
    page = (GUIDES[0].parent / "commands.md").read_text()
    hidden = {"docs", "template"}
    assert [name for name in COMMANDS if f"`{name}`" not in page and name not in hidden] == []
