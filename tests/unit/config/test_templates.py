"""Templates: components made of others by a mapping."""

import pytest

from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, InvalidConfig, read
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.render import render
from openmeter_collector.config.templates import lint_template, with_templates

GREET = """
name: greet
type: processor
summary: Greets.
fields:
  - {name: whom, type: string, description: Whom to greet.}
  - {name: times, type: int, default: 1}
  - {name: tags, type: string, kind: list, default: [a]}
  - {name: mood, type: string_enum, options: [glad, sad], default: glad}
mapping: |
  root.mapping = "root = " + "%s %s %d".format(this.mood, this.whom, this.times).quote()
  root.label = @label
tests:
  - name: greets
    label: hi
    config: {whom: you}
    expected: {label: hi, mapping: 'root = "glad you 1"'}
"""


@pytest.fixture
def registry(tmp_path):
    path = tmp_path / "greet.yaml"
    path.write_text(GREET)
    return with_templates(standard_registry(), [path], {})


def processors(registry, text):
    reading = read(f"pipeline: {{processors: [{text}]}}", registry, Config, env={})
    return reading.or_raise().pipeline.processors


def test_a_template_becomes_the_component_that_its_mapping_makes(registry):
    (node,) = processors(registry, "{label: hi, greet: {whom: you, times: 2}}")
    assert (node.name, node.label) == ("mapping", "hi")
    assert node.config.mapping.text == 'root = "glad you 2"'


def test_fields_of_a_template_are_linted_like_those_of_any_component(registry):
    for text, told in (
        ("{greet: {}}", "'whom' is missing"),
        ("{greet: {whom: a, who: b}}", "no field 'who'; did you mean 'whom'?"),
        ("{greet: {whom: a, mood: glum}}", "'glum' is none of the options"),
        ("{greet: {whom: a, tags: b}}", "write a list"),
        ("{greet: {whom: a, times: many}}", "is not a whole number"),
    ):
        with pytest.raises(InvalidConfig, match=told):
            processors(registry, text)


def test_what_a_template_makes_is_checked_at_the_place_of_the_template(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\ntype: processor\nmapping: 'root.nonsense = {}'\n")
    registry = with_templates(standard_registry(), [path], {})
    with pytest.raises(InvalidConfig) as raised:
        read("pipeline:\n  processors:\n    - bad: {}\n", registry, Config, env={}).or_raise()
    (fault,) = raised.value.faults
    assert (fault.line, fault.found) == (3, "there is no processor 'nonsense'")


def test_a_template_made_of_itself_is_a_fault_and_no_crash(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text("name: loop\ntype: processor\nmapping: 'root.loop = {}'\n")
    registry = with_templates(standard_registry(), [path], {})
    with pytest.raises(InvalidConfig, match="template loop is made of itself"):
        processors(registry, "{loop: {}}")


def test_processors_of_input_templates_run_before_those_of_the_config(tmp_path):
    path = tmp_path / "in.yaml"
    path.write_text(
        "name: up\ntype: input\nmapping: |\n"
        '  root.stdin = {}\n  root.processors = [{"mapping": "root = 1"}]\n'
    )
    out = tmp_path / "out.yaml"
    out.write_text(
        path.read_text().replace("type: input", "type: output").replace("stdin", "stdout")
    )
    registry = with_templates(standard_registry(), [path, out], {})
    text = "input: {up: {}, processors: [{mapping: root = 2}]}\noutput: {up: {}, processors: [{mapping: root = 2}]}\n"
    config = read(text, registry, Config, env={}).or_raise()
    assert [one.config.mapping.text for one in config.input.processors] == ["root = 1", "root = 2"]
    assert [one.config.mapping.text for one in config.output.processors] == ["root = 2", "root = 1"]


def test_lint_runs_the_tests_of_a_template(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(GREET)
    assert lint_template(path, standard_registry(), {}) == []
    path.write_text(
        GREET.replace("glad you 1", "sad you 1").replace("times, type: int", "times, type: integer")
    )
    (line,) = lint_template(path, standard_registry(), {})
    assert line == f"{path}(7,1) value integer is not a valid option for this field"
    path.write_text(GREET.replace('"glad you 1"', '"sad you 1"'))
    (line,) = lint_template(path, standard_registry(), {})
    assert "test 'greets': mismatch between expected and actual config" in line
    path.write_text(GREET.replace("root.mapping =", "root.aws_sqs ="))
    found = lint_template(path, standard_registry(), {})
    assert (
        f"{path}(1,1) test 'greets': lint error in resulting config: (0,1) unable to infer component type: aws_sqs"
        in found
    )


def test_what_is_shown_of_a_config_is_the_template_and_not_what_it_makes(registry):
    text = "pipeline: {processors: [{label: hi, greet: {whom: you}}]}"
    shown = plain_values(render(read(text, registry, Config, env={}).or_raise()))
    fields = {"whom": "you", "times": 1, "tags": ["a"], "mood": "glad"}
    assert shown["pipeline"]["processors"] == [{"label": "hi", "greet": fields}]


def test_faults_of_template_files_stop_the_start(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("name: Bad Name\ntype: processor\nmapping: 'root = '\n")
    with pytest.raises(InvalidConfig) as raised:
        with_templates(standard_registry(), [path], {})
    assert [fault.line for fault in raised.value.faults] == [1, 3]
