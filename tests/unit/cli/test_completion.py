"""What a shell is told when it completes our command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from openmeter_collector.cli.main import COMMANDS, cli
from openmeter_collector.cli.options import only_options


def completions(*args, word=""):
    shell = ShellComplete(cli, {}, "openmeter-collector", "_OPENMETER_COLLECTOR_COMPLETE")
    return [
        item.value if item.type == "plain" else item.type
        for item in shell.get_completions(list(args), word)
    ]


def test_commands_are_completed_also_behind_options_of_run():
    assert completions(word="li") == ["lint", "list"]
    assert completions("-c", "a.yaml", word="li") == ["lint", "list"]
    assert completions("-ca.yaml", "--chilled", "--log.level=debug", word="stre") == ["streams"]
    assert completions() == sorted(COMMANDS)


def test_an_option_before_the_command_is_completed_with_its_value():
    assert "--log.level" in completions(word="--log")
    assert completions("-c") == ["file"]
    assert completions("-c", "a.yaml", "-e") == ["file"]
    assert completions("-c", "a.yaml", "--log.level", word="deb") == ["debug"]


def test_options_and_values_of_a_command_are_completed():
    assert completions("-c", "a.yaml", "lint", word="--up") == ["--upstream"]
    assert completions("run", "-c") == ["file"]
    assert completions("completion") == ["bash", "zsh", "fish"]
    assert completions("buffer", word="sta") == ["stat"]


def test_what_is_not_for_people_is_not_offered():
    assert completions("run", word="--worker") == ["--workers"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], True),
        (["-c"], False),
        (["-c", "x"], True),
        (["-cx", "-w"], True),
        (["--c=x"], True),
        (["-w", "lint"], False),
    ],
)
def test_a_line_of_options_only_is_told_from_one_that_waits_for_a_value(args, expected):
    assert only_options(args, {"-c": True, "--c": True, "-w": False}) is expected


def test_bash_completes_with_what_is_printed(tmp_path):
    bash = shutil.which("bash")
    assert bash, "bash is part of every machine that runs ./dev"
    script = """
        eval "$(openmeter-collector completion bash)"
        COMP_WORDS=(openmeter-collector -c some.yaml li) COMP_CWORD=3
        _openmeter_collector_completion openmeter-collector li -c
        echo "${COMPREPLY[@]}"
        complete -p openmeter-collector
    """
    here = Path(sys.executable).parent
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{here}:{os.environ['PATH']}"},
    )
    assert done.stdout.splitlines()[0] == "lint list"
    assert "_openmeter_collector_completion" in done.stdout


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "#compdef"), ("fish", "complete --no-files")])
def test_other_shells_get_a_script_of_theirs(shell, mark, capsys):
    assert cli.main(["completion", shell], "openmeter-collector", standalone_mode=False) == 0
    assert mark in capsys.readouterr().out
