"""`ledger`: what it prints, and that it ends with 1 when the books do not balance."""

import asyncio
import json

import apsw
import pytest
from click.testing import CliRunner

from openmeter_collector.cli.ledger import ledger
from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, ConfigError, Dropped, StorageError
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.journal import Journal, JournalOptions

EVENT = b'{"id":"%d","source":"shop","type":"request"}'


@pytest.fixture
async def journal(tmp_path):
    path = tmp_path / "buffer.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as opened:
        told = asyncio.get_running_loop().create_future()
        batch = [Message(EVENT % number) for number in range(4)]
        opened.write(Delivery(batch, told.set_result))
        await told
        letter = DeadLetter(batch[0], "refused", "", 1, 1.0, 1.0, "out")
        (await opened.read()).settle(
            BatchFailed({0: Undeliverable(letter), 1: Dropped("evens (mapping)")})
        )
    return path


def run(*arguments):
    return CliRunner().invoke(ledger, [str(one) for one in arguments], standalone_mode=False)


def test_it_shows_the_lines_and_the_rules(journal):
    done = run("-j", journal)
    assert done.return_value == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[0] == ["source", "type", "received", "dropped", "delivered", "dead", "waiting",
                        "balance"]  # fmt: skip
    assert lines[1] == ["shop", "request", "4", "1", "2", "1", "0", "0"]
    assert lines[2] == ["all", "hours", "4", "1", "2", "1", "0", "0"]
    assert "evens (mapping)" in done.output


def test_by_hour_it_says_which_hour(journal):
    assert run("-j", journal, "--hours", "2").output.split("\n")[1].split()[1].endswith(":00")


def test_as_json_it_can_be_read_by_a_program(journal):
    told = json.loads(run("-j", journal, "--json").output)
    assert told["balanced"] is True
    (line,) = told["lines"]
    assert (line["received"], line["dead"], line["balance"]) == (4, 1, 0)
    assert line["dropped_by"] == {"evens (mapping)": 1}


def test_an_event_that_nobody_accounts_for_is_seen_and_the_exit_code_says_so(journal):
    connection = apsw.Connection(str(journal))
    connection.execute("UPDATE ledger SET delivered = delivered - 1")
    connection.close()
    done = run("-j", journal)
    assert done.return_value == 1
    assert "do not balance: 1 lines, 1 events" in done.stderr
    told = run("-j", journal, "--json")
    assert told.return_value == 1
    assert json.loads(told.output)["balanced"] is False


def test_reading_changes_no_byte_and_leaves_no_file(journal):
    before = {one.name: one.read_bytes() for one in journal.parent.iterdir()}
    run("-j", journal)
    assert {one.name: one.read_bytes() for one in journal.parent.iterdir()} == before


def test_a_config_says_where_the_journal_is(journal, monkeypatch):
    monkeypatch.chdir(journal.parent)
    config = journal.with_name("config.yaml")
    config.write_text("input: {stdin: {}}\nbuffer: {sqlite: {path: buffer.db}}\noutput: {drop: {}}")
    assert run("-c", config).return_value == 0
    config.write_text("input: {stdin: {}}\noutput: {drop: {}}")
    with pytest.raises(ConfigError, match="has no sqlite buffer"):
        raise run("-c", config).exception


def test_what_is_no_journal_is_named(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        raise run("-j", tmp_path / "none.db").exception
    with pytest.raises(ConfigError, match="no journal was named"):
        raise run().exception
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE a (b)")
    other.close()
    with pytest.raises(StorageError, match="not a journal"):
        raise run("-j", tmp_path / "other.db").exception
    assert (tmp_path / "other.db").exists()
