"""The entry to the project."""

import subprocess
from pathlib import Path

import pytest

from openmeter_collector.errors import install_extra

ROOT = Path(__file__).parents[2]


def dev(*arguments):
    return subprocess.run(
        ["/bin/sh", "dev", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_an_extra_that_is_not_there_is_named_with_those_that_are():
    done = dev("extra", "postgresql")
    assert done.returncode == 2
    assert "there is no extra 'postgresql'; known: azure bloblang clickhouse " in done.stderr
    assert " postgres " in done.stderr


@pytest.mark.parametrize("command", ["extra", "collector", "demo", "test", "lock"])
def test_help_tells_every_command(command):
    assert f"./dev {command} " in dev("help").stdout


def test_whoever_misses_a_library_is_told_both_ways_to_get_it():
    told = install_extra("postgres")
    assert "pip install 'openmeter-collector[postgres]'" in told
    assert "./dev extra postgres" in told
