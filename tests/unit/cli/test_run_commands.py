"""`run` and `streams`: where options may stand, and what they do."""

import json
import subprocess
import sys

import pytest

from openmeter_collector.cli.options import moved_behind, with_plain_flags
from openmeter_collector.cli.stream_files import stream_files
from openmeter_collector.cli.streams import streams
from openmeter_collector.errors import ConfigError

KNOWN = {
    "run": {"-c": True, "--config": True, "--log.level": True, "-s": True, "--chilled": False,
            "-r": True, "--resources": True},
    "streams": {"-c": True, "--config": True, "--log.level": True, "-r": True,
                "--resources": True, "--no-api": False},
    "lint": {"-r": True, "--resources": True},
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-c a.yaml", "run -c a.yaml"),
        ("-c a.yaml --chilled", "run -c a.yaml --chilled"),
        ("--config=a.yaml streams --no-api x", "streams --config=a.yaml --no-api x"),
        (
            "--config c.yaml --log.level debug --resources r/*.yaml streams --no-api s/*.yaml",
            "streams --config c.yaml --log.level debug --resources r/*.yaml --no-api s/*.yaml",
        ),
        ("--log.level debug -r x lint a.yaml", "lint -r x a.yaml"),
        ("-s run lint", "lint"),
        ("--chilled a.yaml", "run --chilled a.yaml"),
    ],
)
def test_options_may_stand_before_the_command(given, expected):
    assert moved_behind(given.split(), KNOWN.get) == expected.split()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--no-api=true x", "--no-api x"),
        ("--no-api=false x", "x"),
        ("--prefix-stream-endpoints=false", "--no-prefix-stream-endpoints"),
        ("--prefix-stream-endpoints=true", "--prefix-stream-endpoints"),
        ("-s a=true -- --no-api=true", "-s a=true -- --no-api=true"),
        ("--chilled=maybe", "--chilled=maybe"),
    ],
)
def test_flags_may_be_given_with_a_value_as_in_go(given, expected):
    assert with_plain_flags(given.split(), streams.params) == expected.split()


def test_streams_are_named_after_their_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one.yaml").touch()
    (tmp_path / "a" / "b" / "two.yml").touch()
    assert sorted(stream_files([str(tmp_path)])) == ["a_b_two", "one"]
    assert list(stream_files([f"{tmp_path}/*.yaml"])) == ["one"]
    (tmp_path / "one.yml").touch()
    with pytest.raises(ConfigError, match="already"):
        stream_files([str(tmp_path)])


def collector(*arguments, cwd):
    command = [sys.executable, "-m", "openmeter_collector.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "http: {enabled: false}\n"
        "logger: {format: json}\n"
        "input: {generate: {mapping: 'root.v = env(\"GREETING\")', count: 1, interval: ''}}\n"
        "output: {resource: out}\n"
    )
    (tmp_path / "res").mkdir()
    (tmp_path / "res" / "out.yaml").write_text(
        "output_resources:\n  - label: out\n    file: {path: ./out.txt}\n"
    )
    (tmp_path / "vars.env").write_text("GREETING=hello\n")
    return tmp_path


def test_run_takes_resources_variables_and_values_from_the_command_line(folder):
    done = collector(
        "-c", "config.yaml", "-r", "res/*.yaml", "-e", "vars.env",
        "-s", "input.generate.count=3", "--log.level", "info", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert (folder / "out.txt").read_text() == '{"v":"hello"}\n' * 3
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["msg"], last["delivered"]) == ("stopped, nothing is left to deliver", 3)


def test_with_chilled_what_only_a_linter_minds_is_a_warning(folder):
    with (folder / "config.yaml").open("a") as file:
        file.write("nonsense: 1\n")
    arguments = ("run", "-r", "res/*.yaml", "-e", "vars.env", "config.yaml")
    done = collector(*arguments, cwd=folder)
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    done = collector(*arguments, "--chilled", cwd=folder)
    assert done.returncode == 0, done.stderr
    warned = json.loads(done.stdout.splitlines()[0])
    assert warned["level"] == "warn"
    assert "nonsense" in warned["msg"]


def test_streams_run_side_by_side_and_meet(folder):
    (folder / "streams").mkdir()
    (folder / "streams" / "give.yaml").write_text(
        "input: {generate: {mapping: root = count(\"m\"), count: 5, interval: ''}}\n"
        "output: {inproc: meet}\n"
    )
    (folder / "streams" / "take.yaml").write_text(
        "input:\n  read_until:\n    check: this == 5\n    input: {inproc: meet}\n"
        "output: {resource: out}\n"
    )
    (folder / "shared.yaml").write_text("http: {enabled: false}\nlogger: {format: json}\n")
    done = collector(
        "--config", "shared.yaml", "--resources", "res/*.yaml", "streams", "--no-api",
        "streams/*.yaml", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert (folder / "out.txt").read_text() == "1\n2\n3\n4\n5\n"
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["stream"] for line in said if "delivered" in line} == {"give", "take"}


def test_faults_of_all_streams_are_told_at_once(folder):
    (folder / "a.yaml").write_text("input: {nothing: {}}\n")
    (folder / "b.yaml").write_text("output: {neither: {}}\n")
    done = collector("streams", "a.yaml", "b.yaml", cwd=folder)
    assert done.returncode == 1
    assert "a.yaml:1" in done.stderr
    assert "b.yaml:1" in done.stderr


def test_a_fault_found_on_opening_is_a_line_whatever_is_open_by_then(folder):
    (folder / "c.yaml").write_text(
        "http: {enabled: false}\n"
        "input: {file: {paths: [ ./not-there ]}}\n"
        "output: {drop_on: {output: {file: {path: x}, processors: []}}}\n"
    )
    done = collector("run", "c.yaml", cwd=folder)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("root.input.file.paths: ./not-there: no such file; ")


def test_a_level_that_is_none_is_refused(folder):
    done = collector("run", "--log.level", "chatty", "config.yaml", cwd=folder)
    assert done.returncode == 2
    assert "'chatty' is not one of" in done.stderr
    done = collector("run", "--log.level", "NONE", "-r", "res/*.yaml", "config.yaml", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "")
