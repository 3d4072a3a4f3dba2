"""`openmeter-collector blobl`."""

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.blobl import blobl
from openmeter_collector.errors import ConfigError


def run(*arguments, lines=""):
    return CliRunner().invoke(blobl, arguments, input=lines)


def test_a_result_a_line():
    done = run("root.id = this.id.uppercase()", lines='{"id":"a"}\n{"id":"b"}\n')
    assert done.stdout == '{"id":"A"}\n{"id":"B"}\n'
    assert done.exit_code == 0


def test_errors_go_to_stderr_with_the_number_of_the_line():
    done = run("root = this.id.uppercase()", lines='{"id":"a"}\n{"id":5}\nnope\n{"id":"c"}\n')
    assert done.stdout == "A\nC\n"
    assert (
        "line 2: failed to execute map: failed assignment (line 1): expected string" in done.stderr
    )
    assert "line 3: failed to parse message as JSON: invalid character" in done.stderr
    assert done.exit_code == 0


def test_raw_lines_pretty_results_and_dropped_ones():
    assert run("--raw", "root = content().uppercase()", lines="a b\n").stdout == "A B\n"
    assert run("-p", "root.a = 1", lines="{}\n").stdout == '{\n  "a": 1\n}\n'
    assert run("root = deleted()", lines="{}\n").stdout == ""
    assert run("meta a = 1", lines='{"z": 1}\n').stdout == '{"z": 1}\n'


def test_mapping_and_input_from_files(tmp_path):
    mapping, lines = tmp_path / "m.blobl", tmp_path / "in.json"
    mapping.write_text("root = this.n + 1")
    lines.write_text('{"n":1}\n')
    assert run("-f", str(mapping), "-i", str(lines)).stdout == "2\n"


def test_a_mapping_that_is_none_is_shown_with_a_caret():
    done = run("root = this.a +", lines="{}\n")
    assert done.exit_code == 1
    assert "line 1 char 16: expected query" in done.stderr
    assert "^---" in done.stderr


def test_formatting(tmp_path):
    path = tmp_path / "m.blobl"
    path.write_text("# top\nroot.a   =   [1,2].map_each( x->1 )\n".replace("x->1", "x -> 1"))
    assert run("fmt", "--check", str(path)).exit_code == 1
    assert run("fmt", str(path)).exit_code == 0
    assert path.read_text() == "# top\nroot.a = [1, 2].map_each(x -> 1)\n"
    assert run("fmt", "--check", str(path)).exit_code == 0
    assert run("fmt", lines="root=").exit_code == 1


def test_pages():
    assert "Remove a prefix" in run("explain", "trim_prefix").stdout
    done = run("explain", "trim_prefi")
    assert isinstance(done.exception, ConfigError)
    assert "did you mean trim_prefix" in str(done.exception)
    with pytest.raises(ConfigError, match="left out"):
        raise run("explain", "geoip_city").exception


def test_a_plug_in(tmp_path):
    path = tmp_path / "p.py"
    path.write_text(
        "from openmeter_collector.bloblang import Value, method\n"
        "@method('x')\ndef twice(value: Value) -> Value:\n    '''Twice.'''\n    return value * 2\n"
    )
    assert run("--plugin", str(path), "root = this.twice()", lines="4\n").stdout == "8\n"


def test_what_a_mapping_file_imports_and_reads_is_looked_for_beside_it(tmp_path):
    (tmp_path / "lib.blobl").write_text("map f {\n  root.x = this.a\n}\n")
    (tmp_path / "data.txt").write_text("D")
    mapping = tmp_path / "m.blobl"
    mapping.write_text(
        'import "lib.blobl"\nroot = this.apply("f")\nroot.d = file_rel("data.txt").string()'
    )
    assert run("-f", str(mapping), lines='{"a":1}\n').stdout == '{"d":"D","x":1}\n'


@pytest.mark.parametrize(
    "arguments",
    [("-f", "missing.blobl"), ("-i", "missing.json", "root = 1"), ("fmt", "missing.blobl")],
)
def test_a_file_that_is_not_there_is_named_without_a_traceback(arguments):
    assert str(run(*arguments).exception).startswith(next(a for a in arguments if "missing" in a))


def test_a_mapping_that_is_no_text_is_said_to_be_none(tmp_path):
    mapping = tmp_path / "m.blobl"
    mapping.write_bytes(b"\xff\xfe")
    for arguments in (("-f", str(mapping)), ("fmt", str(mapping))):
        assert "not UTF-8" in str(run(*arguments).exception)
