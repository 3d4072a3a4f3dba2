"""The words and places that `lint` prints."""

import pytest

from kit.config_parts import REGISTRY
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import Config, Problem, lint_lines, read

CASES = [
    ("input:\n  source: {url: 'http://x'}\noutput: {sink: {}}\n", []),
    ("other: 1\ninput: {source: {url: 'http://x'}}\n", ["(1,1) field other not recognised"]),
    ("input:\n  source:\n    url: http://x\n    tls:\n      other: 1\n",
     ["(5,1) field other not recognised"]),
    ("output:\n  type: snk\n", ["(2,1) output type 'snk' was not recognised"]),
    ("output:\n  snk: {}\n", ["(2,1) unable to infer component type: snk"]),
    ("input:\n  source: {}\n", ["(2,1) field url is required"]),
    ("input:\n  source:\n    count: 1\n", ["(3,1) field url is required"]),
    ("output:\n  label: A\n  sink: {}\n",
     [("(2,1) invalid label 'A': should match the regular expression /^[a-z0-9_\\-]+$/ and must not "
      "start with an underscore")]),
    ("output:\n  label: _a\n  sink: {}\n",
     [("(2,1) invalid label '_a': should match the regular expression /^[a-z0-9_\\-]+$/ and must not "
      "start with an underscore")]),
    ("cache_resources:\n  - label: ''\n    memory: {}\n",
     ["(2,1) the label field for resources must be unique and not empty"]),
    ("cache_resources:\n  - label: a\n    memory: {}\n  - label: a\n    memory: {}\n",
     ["(4,1) label collides with a previously defined label at line 2"]),
    ("pipeline:\n  processors:\n    noop: {}\n",
     ["(1,1) field 'pipeline': field 'processors': line 3: expected array value, got !!map"]),
    ("pipeline:\n  threads: several\n",
     [("(1,1) field 'pipeline': field 'threads': yaml: unmarshal errors:\n  line 2: cannot unmarshal "
      "!!str `several` into int")]),
    ("pipeline:\n  threads: as many as there are\n",
     [("(1,1) field 'pipeline': field 'threads': yaml: unmarshal errors:\n  line 2: cannot unmarshal "
      "!!str `as many...` into int")]),
    ("logger: [1]\n", ["(1,1) field 'logger': line 1: expected object value, got !!seq"]),
    ("http:\n  adress: x\n", ["(2,1) field adress not recognised"]),
    ("output:\n  processors: []\n  sink: {}\n",
     ["(2,1) field processors is empty and can be removed"]),
    ("input:\n  source:\n    url: http://x\n    count: {}\n", ["(4,1) expected int value"]),
    ("input:\n  source:\n    url: http://x\n    names: x\n", ["(4,1) expected array value"]),
    ("input:\n  source:\n    url: http://x\n    tls: x\n",
     ["(4,1) expected object value, got !!str"]),
    ("input:\n  source:\n", ["(2,1) expected object value, got !!null"]),
    ("pipeline:\n  processors:\n    - label: x\n",
     ["(3,1) an explicit processor type must be specified"]),
    ("pipeline:\n  processors: [~]\n", ["(2,1) invalid type !!null, expected object"]),
    ("pipeline:\n  processors:\n    - type: mapping\n      plugin: root = this\n",
     ["(4,1) expected object value, got !!str"]),
    ("pipeline:\n  processors:\n    - noop: {}\n      mapping: root = this\n",
     ["(3,1) unable to infer component type, multiple candidates 'mapping' and 'noop'"]),
    ("pipeline:\n  processors:\n    - noop: {}\n      other: x\n",
     ["(4,1) field other is invalid when the component type is noop (processor)"]),
    ("a: ${X}\nhttp: {address: '${Y}${X}'}\n",
     ["(1,1) required environment variables were not set: [X Y X]",
      "(1,1) field a not recognised"]),
    ("http: {address: '${HOME|rot13}'}\n", ["(1,1) unknown env var decode function: rot13"]),
    ("http: {a\n", ["(1,1) yaml: line 2: did not find expected ',' or '}'"]),
    ("http: *x\n", ["(1,1) yaml: unknown anchor 'x' referenced"]),
    ("a: 1\na: 2\n", ['(1,1) yaml: line 2: mapping key "a" already defined at line 1']),
    ("- 1\n", ["(1,1) expected object value, got !!seq"]),
    ("tests:\n  - target_processors: x\n",
     ["(1,1) field 'tests': field 'name' is required and was not present in the config"]),
    ("tests:\n  - name: x\n    input_batches: [a]\n",
     ["(1,1) field 'tests': field 'input_batches': line 3: expected array value, got !!str"]),
    ("http: {}\n---\nnope: 1\n", []),
    ("", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), CASES)
def test_faults_have_the_words_that_tools_look_for(text, lines):
    problems = read(text, REGISTRY, Config, env={"HOME": "/"}, file="c.yaml").problems
    told = [problem for problem in problems if problem.severity in {"error", "lint"}]
    assert sorted(lint_lines(told)) == sorted(f"c.yaml{line}" for line in lines)


def test_unset_variables_share_a_line_in_each_file():
    def unset(name, file):
        return Problem(file, 3, 4, "missing_env", name, lint_at=(1, 1))

    text = "required environment variables were not set"
    assert lint_lines([unset("B", "x"), unset("A", "x"), unset("C", "y")]) == [
        f"x(1,1) {text}: [B A]",
        f"y(1,1) {text}: [C]",
    ]


def test_a_reference_to_a_resource_needs_no_label():
    text = "pipeline:\n  processors:\n    - resource: a\n      label: b\n"
    text += "processor_resources:\n  - label: a\n    noop: {}\n"
    reading = read(text, standard_registry(), Config, env={}, file="c.yaml")
    told = [one.lint_line() for one in reading.problems if one.severity == "lint"]
    assert told == ["c.yaml(4,1) label field should be omitted when pointing to a resource"]
    assert reading.config is not None
