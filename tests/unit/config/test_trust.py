"""What a component may do depends on who wrote the config it stands in."""

from contextlib import asynccontextmanager

import pytest

from openmeter_collector.api import field, processor
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, Stream, read
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.trust import EVERYTHING, of_the_api, of_the_operator, powers_of

WRITES = "output:\n  file:\n    path: /etc/passwd\n"
NESTED = """
pipeline:
  processors:
    - try:
        - label: runs
          starter:
            name: rm
"""


@processor("starter", dangerous="programs")
class Starter:
    """Stands for a component that starts programs and comes from another package."""

    name: str = field(doc="A program.")

    @asynccontextmanager
    async def open(self, env):
        yield None


REGISTRY = standard_registry().with_(Starter)


def faults(text, trust, document=Stream):
    reading = read(text, REGISTRY, document, env={}, trust=trust, file="s.yaml")
    found = [one.friendly() for one in reading.problems if one.severity == "error"]
    assert (reading.config is None) == bool(found)
    return found


def test_what_comes_over_the_api_writes_no_files_unless_that_is_allowed():
    (fault,) = faults(WRITES, of_the_api())
    assert fault.startswith(
        "s.yaml:2:3 root.output: output 'file' is not allowed here: it reads or writes"
    )
    assert "--allow-api files" in fault
    assert faults(WRITES, of_the_api("files")) == []


def test_a_file_of_the_operators_may_write_files_and_start_no_programs():
    assert faults(WRITES, of_the_operator(), Config) == []
    (fault,) = faults(NESTED, of_the_operator(), Config)
    assert "processor 'starter' is not allowed here: it starts programs" in fault
    assert "--allow programs, or set OPENMETER_COLLECTOR_ALLOW=programs" in fault
    assert faults(NESTED, of_the_operator("programs"), Config) == []


def test_nothing_is_said_means_a_file_on_this_machine(monkeypatch):
    assert faults(NESTED, None, Config) == faults(NESTED, of_the_operator(), Config)
    monkeypatch.setenv("OPENMETER_COLLECTOR_ALLOW", "programs")
    assert faults(NESTED, None, Config) == []
    assert len(faults(NESTED, of_the_api("plugins"), Config)) == 1


def test_what_is_allowed_to_the_operator_is_not_allowed_to_the_api():
    """A plug-in that starts programs needs both."""
    assert len(faults(NESTED, of_the_api("programs"))) == 1
    assert "is code from another package" in faults(NESTED, of_the_api("programs"))[0]
    assert faults(NESTED, of_the_api("programs", "plugins")) == []


def test_who_only_looks_is_told_nothing():
    assert faults(NESTED + WRITES, EVERYTHING) == []


def test_chilled_does_not_help():
    reading = read(WRITES, REGISTRY, Stream, env={}, trust=of_the_api(), chilled=True)
    assert reading.config is None


def test_words_that_allow_nothing_are_refused():
    assert powers_of(["files, programs", ""], "--allow") == ("files", "programs")
    with pytest.raises(ConfigError, match="--allow: 'program' cannot be allowed; use one of"):
        powers_of(["program"], "--allow")
