"""What the README shows, done as it says."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from kit.delivering import delivering, post
from kit.pages import Page
from openmeter_collector.cli.main import cli
from openmeter_collector.testing.running import free_port

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text()
LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]
COMMANDS = [
    line.partition("  #")[0].strip() for line in LINES if line.startswith("./dev collector ")
]


async def test_the_config_takes_the_event_of_the_readme(tmp_path):
    (shown,) = re.findall(r"^  -d '(.*)'$", TEXT, re.MULTILINE)
    port = free_port()
    config = Page(README).configs["collector.yaml"]
    async with delivering(config, tmp_path, HTTP_ADDRESS=f"127.0.0.1:{port}") as events:
        url = f"http://127.0.0.1:{port}/api/v1/events"
        kind = {"Content-Type": "application/cloudevents+json"}
        assert await post(url, shown, **kind) == 204
        (event,) = await events()
    assert {**event, "time": ""} == {**json.loads(shown), "time": ""}


def test_init_writes_what_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (made,) = [command for command in COMMANDS if " init" in command]
    called = CliRunner().invoke(cli, shlex.split(made)[2:], standalone_mode=False)
    assert called.exception is None
    written = (tmp_path / "collector.yaml").read_text().splitlines()
    config = Page(README).configs["collector.yaml"].splitlines()
    assert [line for line in config if line and line not in written] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_and_options_of_the_readme_are_there(command):
    name, *options = shlex.split(command)[2:]
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    assert [one for one in options if one.startswith("-") and one not in shown] == []
