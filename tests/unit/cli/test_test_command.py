"""`test`: what unit tests of configs can say, and how the command tells the outcome."""

import json
import os

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.test import test as command
from openmeter_collector.errors import ConfigError

UPPER = """
pipeline:
  processors:
    - label: upper
      mapping: root.a = this.a.uppercase()
    - resource: shared
processor_resources:
  - label: shared
    mapping: root = this
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(tests, *arguments, config=UPPER, **files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (tmp_path / "config.yaml").write_text(config + tests)
        result = CliRunner().invoke(command, arguments or ["config.yaml"], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.return_value, result.stdout, result.stderr

    return call


GOOD = """
tests:
  - name: becomes large
    input_batch:
      - content: '{"a":"x"}'
      - json_content: {a: y}
        metadata: {k: 5}
    output_batches:
      - - json_equals: {a: X}
          bloblang: '!errored()'
        - content_equals: '{"a":"Y"}'
          content_matches: '"Y"}$'
          json_contains: {a: Y}
          metadata_equals: {k: 5}
"""


def test_all_conditions_can_hold(run):
    assert run(GOOD) == (0, "Test 'config.yaml' succeeded\n", "")
    code, out, _ = run(GOOD, "-v", "./...")
    assert (code, out) == (0, "Test 'config.yaml' succeeded\n  1 of 1 tests passed\n")


def test_what_does_not_hold_is_told_message_by_message(run):
    code, out, err = run("""
tests:
  - name: one
    input_batch:
      - content: '{"a":5}'
      - content: '{"a":"b"}'
    output_batches:
      - - content_equals: foo
        - json_equals: {a: C, z: 1}
          metadata_equals: {k: v}
  - name: two
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[], []]
""")
    assert (code, err) == (1, "")
    assert (
        out
        == """\
Test 'config.yaml' failed

Failures:

--- config.yaml ---

one [line 12]:
batch 0 message 0: content_equals: content mismatch
  expected: foo
  received: {"a":5}
batch 0 message 0: failed assignment (line 1): expected string value, got number from field `this.a` (5)
batch 0 message 1: json_equals: JSON content mismatch
{
    "a": "B" => "C",
    "z": (missing) => 1
}
batch 0 message 1: metadata_equals: metadata key 'k' expected but not found

two [line 20]:
wrong batch count, expected 2, got 1
mismatch of output batch 0 message counts, expected 0, got 1
unexpected message from batch 0: {"a":"X"}
"""
    )


def test_mocks_stand_in_for_components_by_label_and_by_pointer(run):
    assert (
        run("""
tests:
  - name: mocked
    mocks:
      upper: {mapping: 'root.a = "mock"'}
      /pipeline/processors/-: {mapping: 'root.b = this.a + "!"'}
      shared: {mapping: 'root.a = this.a + this.a'}
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[{json_equals: {b: mockmock!}}]]
  - name: not mocked
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[{json_equals: {a: X}}]]
""")[0]
        == 0
    )


def test_targets_are_labels_pointers_files_and_mappings(run):
    code, out, err = run(
        """
tests:
  - name: label
    target_processors: upper
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[{json_equals: {a: X}}]]
  - name: pointer
    target_processors: /processor_resources/0
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[{json_equals: {a: x}}]]
  - name: other file
    target_processors: other.yaml#/pipeline/processors
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[{json_equals: {other: true}}]]
  - name: mapping
    target_mapping: ./map.blobl
    input_batch: [{content: '{"a":"x"}'}]
    output_batches: [[{json_equals: {mapped: x}}]]
""",
        other_dot_yaml="pipeline: {processors: [{mapping: root.other = true}]}\n",
        map_dot_blobl="root.mapped = this.a\n",
    )
    assert (code, out, err) == (0, "Test 'config.yaml' succeeded\n", "")


def test_files_hold_contents_and_what_is_expected(run):
    assert (
        run(
            """
tests:
  - name: files
    input_batch: [{file_content: ./in.json}]
    output_batches: [[{file_json_equals: out.json, file_equals: out.json, file_json_contains: out.json}]]
""",
            in_dot_json='{"a":"x"}',
            out_dot_json='{"a":"X"}',
        )[0]
        == 0
    )
    code, _, err = run("""
tests:
  - name: files
    input_batch: [{file_content: ./nowhere.json}]
    output_batches: [[{content_equals: x}]]
""")
    assert code == 1
    assert "failed to read file_content './nowhere.json': No such file" in err


def test_a_tests_environment_is_its_own(run, monkeypatch):
    monkeypatch.setenv("B", "outside")
    config = """
pipeline:
  processors:
    - mapping: 'root = "${A:none} " + env("B").or("none")'
"""
    code, out, _ = run(
        """
tests:
  - name: with
    environment: {A: one, B: two}
    input_batch: [{content: x}]
    output_batches: [[{content_equals: one two}]]
  - name: without
    input_batch: [{content: x}]
    output_batches: [[{content_equals: none outside}]]
""",
        config=config,
    )
    assert code == 0, out
    assert os.environ["B"] == "outside"
    assert "A" not in os.environ


def test_processors_live_on_from_test_to_test_and_batch_to_batch(run):
    config = """
cache_resources: [{label: seen, memory: {}}]
pipeline:
  processors:
    - dedupe: {cache: seen, key: '${! content() }'}
"""
    code, out, _ = run(
        """
tests:
  - name: once
    input_batches: [[{content: a}], [{content: a}], [{content: b}]]
    output_batches: [[{content_equals: a}], [{content_equals: b}]]
  - name: again
    input_batch: [{content: a}]
    output_batches: []
""",
        config=config,
    )
    assert code == 0, out


def test_tests_may_stand_beside_the_config(run):
    beside = GOOD.replace("becomes large", "beside")
    for argument in ("config.yaml", "config_benthos_test.yaml", "./..."):
        code, out, _ = run("", argument, config_benthos_test_dot_yaml=beside)
        assert (code, out) == (0, "Test 'config.yaml' succeeded\n"), argument


def test_what_cannot_be_run_is_told_and_the_rest_goes_on(run):
    wrong = "tests:\n  - {name: m, target_processors: nobody, output_batches: []}\n"
    code, out, err = run(GOOD, "./...", wrong_dot_yaml=wrong)
    assert (code, out) == (1, "Test 'config.yaml' succeeded\n")
    assert err.startswith(
        "Failed to execute test target 'wrong.yaml': test case 0 failed: failed to initialise "
        "processors 'nobody': target for label 'nobody' failed as the label was not found"
    )


def test_a_config_that_lints_badly_fails_its_tests(run):
    code, out, _ = run(GOOD + "nonsense: 1\n")
    assert code == 1
    assert "--- config.yaml ---\n\nLint: (24,1) field nonsense not recognised\n" in out


def test_no_tests_is_a_failure(run):
    assert run("") == (1, "No tests were found\n", "")
    with pytest.raises(ConfigError, match="name a file"):
        run("", "--log", "off")


def test_the_outcome_can_be_json(run):
    code, out, _ = run(GOOD, "--json", "config.yaml")
    assert code == 0
    assert json.loads(out) == [
        {"file": "config.yaml", "succeeded": True, "tests": 1, "lints": [], "failures": [],
         "error": ""}
    ]  # fmt: skip
