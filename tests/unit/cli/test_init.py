"""`init`: every config it can make lints, and its own tests pass."""

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.init import _checked, init
from openmeter_collector.cli.lint import check
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.cli.scaffold import DESTINATIONS, SOURCES, made
from openmeter_collector.cli.test import test as run_tests_of
from openmeter_collector.errors import ConfigError


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments, **options):
        result = CliRunner().invoke(command, arguments, standalone_mode=False, **options)
        if result.exception is not None:
            raise result.exception
        return result.return_value, result.stdout

    return run


@pytest.mark.parametrize(("source", "destination"), list(itertools.product(SOURCES, DESTINATIONS)))
def test_every_config_lints_and_passes_its_tests(source, destination, call, tmp_path):
    code, out = call(init, "--source", source, "--destination", destination)
    assert code == 0
    assert out.startswith("collector.yaml is written, and its tests pass. Next:\n")
    path = tmp_path / "collector.yaml"
    told = check(path, standard_registry(), {})
    assert [one.friendly() for one in told if one.severity in ("error", "lint", "warning")] == []
    assert call(run_tests_of, "collector.yaml")[0] == 0
    text = path.read_text()
    assert text.count("#") >= 4
    assert ("buffer:" in text) is (SOURCES[source].buffered and destination != "stdout")


def test_a_test_that_does_not_hold_is_found_before_anybody_relies_on_it(call, monkeypatch):
    monkeypatch.setitem(
        SOURCES, "broken", SOURCES["demo"].__class__(
            "broken", SOURCES["demo"].input, "processors: [{mapping: root.x = 1}]",
            SOURCES["demo"].test, "",
        ),
    )  # fmt: skip
    path = Path("collector.yaml")
    path.write_text(made("broken", "stdout"))
    with pytest.raises(ConfigError, match="JSON content mismatch"):
        _checked(path)


def test_a_file_that_is_there_is_not_written_over(call, tmp_path):
    (tmp_path / "collector.yaml").write_text("mine")
    arguments = ("--source", "demo", "--destination", "stdout")
    with pytest.raises(ConfigError, match="is there already"):
        call(init, *arguments)
    assert (tmp_path / "collector.yaml").read_text() == "mine"
    assert call(init, *arguments, "--force")[0] == 0


def test_nobody_is_asked_who_cannot_answer(call):
    with pytest.raises(ConfigError, match="--source is missing and nobody can be asked"):
        call(init, "--destination", "stdout")


def test_what_is_not_given_is_asked_for(call, monkeypatch, tmp_path):
    monkeypatch.setattr("openmeter_collector.cli.init._can_ask", lambda: True)
    code, out = call(init, input="9\n5\nstdout\n")
    assert code == 0
    assert "answer a number from 1 to 5" in out
    assert "generate:" in (tmp_path / "collector.yaml").read_text()


def test_the_address_of_the_destination_can_be_given(call):
    _, out = call(init, "--source", "demo", "--destination", "openmeter", "--url", "http://om:1",
                  "-o", "-")  # fmt: skip
    assert "url: ${OPENMETER_URL:http://om:1}" in out


def test_what_to_do_next_is_written_as_the_command_was_called(call, monkeypatch):
    monkeypatch.setenv("OPENMETER_COLLECTOR_CALLED_AS", "./dev collector")
    _, out = call(init, "--source", "demo", "--destination", "local")
    assert "  ./dev collector run -c collector.yaml\n" in out
    assert "  ./dev collector sandbox " in out


def test_whoever_looks_for_another_source_is_told_of_presets(call, monkeypatch):
    monkeypatch.setattr("openmeter_collector.cli.init._can_ask", lambda: True)
    _, out = call(init, input="demo\nstdout\n")
    assert "openmeter-collector list presets" in out
