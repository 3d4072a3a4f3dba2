"""`dlq`: what its commands print and do."""

import asyncio
import json
import stat
import sys

import pytest
from click.testing import CliRunner

from openmeter_collector.cli.dlq import dlq
from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, CollectorError, ConfigError
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.journal import Journal, JournalOptions

EVENT = '{{"id":"{}","source":"shop","type":"{}","subject":"c"}}'
NOW = 1_800_000_000.0


def event(number, kind="request"):
    return EVENT.format(number, kind).encode()


@pytest.fixture
async def path(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW)
    path = tmp_path / "buffer.db"
    contents = [event(1), event(2, "tokens"), b"\xff odd \x1b[31m"]
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        told = asyncio.get_running_loop().create_future()
        journal.write(Delivery([Message(one, {"k": "v"}) for one in contents], told.set_result))
        await told
        delivery = await journal.read()
        verdicts = {}
        for at, message in enumerate(delivery.batch):
            when = NOW - (40 * 86_400 if at == 0 else 60)
            letter = DeadLetter(message, f"refused {at} \x1b[31m", "{}", 2, when, when, "out")
            verdicts[at] = Undeliverable(letter)
        delivery.settle(BatchFailed(verdicts))
    return path


def run(command, path, *arguments, **more):
    return CliRunner().invoke(
        dlq, [command, "-j", str(path), *arguments], standalone_mode=False, **more
    )


def listed(path):
    output = run("list", path, "--json").output
    return [json.loads(line) for line in output.splitlines()]


def waiting(path):
    async def main():
        async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
            contents = []
            while not contents or journal.status().frames > 1:
                delivery = await asyncio.wait_for(journal.read(), 10)
                contents += [message.content for message in delivery.batch]
            return contents

    return asyncio.run(main())


def test_list_shows_a_line_for_each_and_no_control_characters(path):
    output = run("list", path).output
    assert output.splitlines()[0].split() == ["letter", "last", "attempt", "id", "type", "subject",
                                             "attempts", "reason"]  # fmt: skip
    assert len(output.splitlines()) == 4
    assert "\x1b" not in output
    assert "and 1 older ones" in run("list", path, "--limit", "2").output
    assert run("list", path, "--type", "none").output == "no dead letters\n"


def test_show_has_everything_and_needs_to_be_told_which(path):
    output = run("show", path, "2").output
    for text in ("refused 1", "tokens", event(2, "tokens").decode(), '"k": "v"', "out", "2027-"):
        assert text in output
    assert "\x1b" not in run("show", path, "3").output
    with pytest.raises(ConfigError, match="which letters"):
        raise run("show", path).exception


def test_export_keeps_the_exact_bytes_in_a_file_for_its_owner(path, tmp_path):
    file = tmp_path / "letters.jsonl"
    assert "3 letters written" in run("export", path, "-o", str(file)).stderr
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows[0]["event"] == event(1).decode()
    assert rows[2]["event_base64"] == "/yBvZGQgG1szMW0="
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_replay_keeps_the_ids_and_warns_of_old_ones(path):
    done = run("replay", path, "1", "2")
    assert "2 letters put back" in done.stderr
    assert "1 letters are older than the backend's dedupe window (768h), such as letter 1" in (
        done.stderr
    )
    assert [row["letter"] for row in listed(path)] == [3]
    assert waiting(path) == [event(1), event(2, "tokens")]


@pytest.mark.parametrize("arguments", [["--dedupe-window", "1200h"], ["--new-ids"]])
def test_replay_does_not_warn_where_there_is_nothing_to_warn_of(path, arguments):
    assert "warning" not in run("replay", path, "1", *arguments).stderr


def test_replay_gives_new_ids_when_told_to(path):
    run("replay", path, "1", "--new-ids")
    (content,) = waiting(path)
    made = json.loads(content)
    assert made.pop("id") != "1"
    assert made == {"source": "shop", "type": "request", "subject": "c"}


def test_edit_by_a_mapping_and_replay(path):
    done = run(
        "edit", path, "--type", "tokens", "-m", 'root = this\nroot.subject = "d"', "--replay"
    )
    assert "1 letters changed and put back" in done.stderr
    (content,) = waiting(path)
    assert json.loads(content)["subject"] == "d"


def test_edit_by_a_mapping_keeps_what_is_not_assigned(path):
    run("edit", path, "2", "-m", 'root.type = "words"', "--replay")
    (content,) = waiting(path)
    assert json.loads(content) == json.loads(event(2, "words"))


@pytest.mark.parametrize("command", [["show"], ["edit", "-m", "root.a = 1"], ["replay"], ["drop"]])
def test_a_number_of_no_letter_is_a_fault_and_nothing_is_done(path, command):
    name, *more = command
    with pytest.raises(CollectorError, match="there is no letter 17, 18; nothing was done"):
        raise run(name, path, "1", "17", "18", *more).exception
    assert len(listed(path)) == 3


def test_edit_in_an_editor_keeps_what_it_was(path, monkeypatch, tmp_path):
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\n"
        "p.write_text(p.read_text().replace('tokens', 'words') + '\\n')\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    assert "1 letters changed" in run("edit", path, "2").stderr
    (row,) = [row for row in listed(path) if row["letter"] == 2]
    assert (row["type"], row["event"]) == ("words", event(2, "words").decode())
    assert row["before_edit"] == event(2, "tokens").decode()


def test_an_edit_that_fails_says_at_which_letter(path):
    with pytest.raises(CollectorError, match="letter 3: "):
        raise run("edit", path, "--all", "-m", "root = this").exception
    with pytest.raises(CollectorError, match="use `dlq drop`"):
        raise run("edit", path, "1", "-m", "root = deleted()").exception
    with pytest.raises(ConfigError, match="failed to parse mapping"):
        raise run("edit", path, "1", "-m", "root = ").exception


def test_edit_without_an_editor_says_what_to_do(path, monkeypatch):
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    with pytest.raises(ConfigError, match="set EDITOR"):
        raise run("edit", path, "1").exception


def test_drop_asks_first(path):
    assert len(listed(path)) == 3
    run("drop", path, "1", input="n\n")
    assert len(listed(path)) == 3
    assert "1 letters dropped" in run("drop", path, "1", "--yes").stderr
    assert [row["letter"] for row in listed(path)] == [2, 3]
    with pytest.raises(ConfigError, match="which letters"):
        raise run("drop", path, "--yes").exception
    run("drop", path, "--all", "--yes")
    assert listed(path) == []
