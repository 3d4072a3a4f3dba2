"""`blobl server`: what it offers of a config, and the tests it writes beside one."""

import pytest

from openmeter_collector.admin.attempt import Asked, Reach
from openmeter_collector.admin.unit_case import Wanted, yaml_of
from openmeter_collector.cli.blobl_server import Served
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.unit_tests import definition_of
from openmeter_collector.errors import ConfigError
from openmeter_collector.testing.unit_tests import run_tests

CONFIG = """
pipeline:
  processors:
    - label: tidy
      mapping: |
        root = this
        root.tidy = true
    - mapping: root.key = "${PLANTED_TOKEN}"
output: {drop: {}}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED_TOKEN", "planted-canary")
    path = tmp_path / "collector.yaml"
    path.write_text(CONFIG)
    return path


def case(name="it"):
    return yaml_of(Asked('{"n":1}', "root = this\nroot.tidy = true"), Wanted(name, "tidy"), Reach())


def test_the_mappings_of_a_config_are_offered_without_its_secrets(config):
    offers = Served(config_file=config).offers()
    first, second = offers.mappings()
    assert (first["name"], first["place"]) == ("tidy", f"{config}:5")
    assert second["hidden"]
    assert "canary" not in str(offers.mappings())
    assert offers.add_test is None, "nothing is written unless it was asked for"
    assert offers.tests_file == ""


def test_options_that_do_not_go_together_are_refused(config):
    for served in (Served(write=True), Served(write_tests=True)):
        with pytest.raises(ConfigError, match="needs"):
            served.offers()
    with pytest.raises(ConfigError):
        Served(config_file=config.with_name("none.yaml")).offers()


NEW = ""
OURS = """tests:
  - name: old # kept
    input_batch: [{content: a}]
    output_batches: [[{content_equals: a}]]
"""
THEIRS = """# kept
tests:
- name: old
  target_processors: tidy
  input_batch:
  - content: a
  output_batches:
  - - content_equals: a"""


@pytest.mark.parametrize("before", [NEW, OURS, THEIRS])
async def test_a_test_is_added_to_the_file_beside_the_config_and_passes(config, before):
    offers = Served(config_file=config, write_tests=True).offers()
    beside = config.with_name("collector_benthos_test.yaml")
    assert offers.tests_file == str(beside)
    if before:
        beside.write_text(before)
        beside.chmod(0o600)
    offers.add_test(case("first"))
    offers.add_test(case("second"))
    text = beside.read_text()
    assert text.startswith(before)
    assert [one["name"] for one in plain_values(text)["tests"]][-2:] == ["first", "second"]
    if before:
        assert beside.stat().st_mode & 0o777 == 0o600
    made = await run_tests(definition_of(config), standard_registry(), env={"PLANTED_TOKEN": "x"})
    assert made.broken == ""
    assert {failure.name for failure in made.failed} <= {"old"}
    assert sorted(path.name for path in config.parent.iterdir()) == sorted(
        [config.name, beside.name]
    )


@pytest.mark.parametrize(
    "before",
    [
        "tests: [{name: old}]\n",
        "tests:\n  - name: old\nmore: 1\n",
        "tests:\n  - name: [\n",
        "- a list\n",
        "tests: []\n",
    ],
)
def test_a_file_that_cannot_be_added_to_stays_as_it_is(config, before):
    beside = config.with_name("collector_benthos_test.yaml")
    beside.write_text(before)
    with pytest.raises(ConfigError, match="collector_benthos_test"):
        Served(config_file=config, write_tests=True).offers().add_test(case())
    assert beside.read_text() == before


def test_tests_in_the_config_itself_are_not_hidden_by_a_file(config):
    config.write_text(CONFIG + "tests: [{name: old, input_batch: [{content: a}]}]\n")
    with pytest.raises(ConfigError, match="has tests in itself"):
        Served(config_file=config, write_tests=True).offers()
    assert Served(config_file=config).offers().mappings()
