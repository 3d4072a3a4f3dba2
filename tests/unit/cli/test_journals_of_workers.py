"""Commands that look into the journal of a config see those of all its workers."""

import asyncio
import json
from contextlib import AsyncExitStack

import apsw
import pytest
from click.testing import CliRunner

from openmeter_collector.cli.buffer import buffer
from openmeter_collector.cli.dlq import dlq
from openmeter_collector.cli.ledger import ledger
from openmeter_collector.cli.roll import Roll, numbered
from openmeter_collector.cli.trace import trace
from openmeter_collector.component.buffer import DeadLetter, Undeliverable
from openmeter_collector.errors import BatchFailed, CollectorError, ConfigError, StorageError
from openmeter_collector.message import Delivery, Message
from openmeter_collector.storage.journal import Journal, JournalOptions

EVENT = b'{"id":"%d","source":"shop","type":"request"}'


async def fill(path, worker):
    """An event was delivered, one is dead, one waits."""
    ids = [10 * worker, 10 * worker + 1]
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(
            Journal.open(JournalOptions(path, min_free_bytes=0))
        )
        told = asyncio.get_running_loop().create_future()
        journal.write(Delivery([Message(EVENT % one) for one in ids], told.set_result))
        await told
        delivery = await journal.read()
        letter = DeadLetter(delivery.batch[1], "refused", "", 1, 1.0, 100.0 - worker, "out")
        delivery.settle(BatchFailed({1: Undeliverable(letter)}))
        told = asyncio.get_running_loop().create_future()
        journal.write(Delivery([Message(EVENT % (ids[1] + 5))], told.set_result))
        await told


@pytest.fixture
async def config(tmp_path):
    """Two workers now; a third journal is not there, since that worker never came to life."""
    path = tmp_path / "buffer.db"
    for worker in (0, 1):
        await fill(numbered(path, worker), worker)
    Roll.beside(path).write(3)
    config = tmp_path / "c.yaml"
    config.write_text(f"buffer: {{sqlite: {{path: {path}}}}}\noutput: {{drop: {{}}}}\n")
    return config


def run(command, *arguments):
    return CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False)


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def letters(config):
    return [
        (one.get("worker", 0), one["letter"])
        for one in lines(run(dlq, "list", "-c", config, "--json"))
    ]


def test_the_books_are_those_of_all(config):
    (told,) = [json.loads(run(ledger, "-c", config, "--json").stdout)]
    assert told["balanced"] is True
    assert (told["total"]["received"], told["total"]["dead"], told["total"]["waiting"]) == (6, 2, 2)
    assert len(told["lines"]) == 1, "the same hour, source and type is one line"
    assert len(told["journals"]) == 2
    shown = run(ledger, "-c", config).output
    assert "buffer.1.db" in shown
    alone = json.loads(run(ledger, "-j", config.parent / "buffer.1.db", "--json").stdout)
    assert alone["total"]["received"] == 3


def test_what_one_journal_has_too_much_does_not_make_up_for_another(config):
    for worker, wrong in ((0, 1), (1, -1)):
        connection = apsw.Connection(str(numbered(config.parent / "buffer.db", worker)))
        connection.execute("UPDATE ledger SET received = received + ?", (wrong,))
        connection.close()
    done = run(ledger, "-c", config, "--json")
    told = json.loads(done.stdout)
    assert (told["total"]["balance"], told["balanced"], done.return_value) == (0, False, 1)


def test_letters_of_all_are_listed_by_their_last_attempt_with_the_worker_s_number(config):
    assert letters(config) == [(1, 1), (0, 1)]
    shown = run(dlq, "list", "-c", config).output.splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["1:1", "1"]
    assert "letter         1:1" in run(dlq, "show", "-c", config, "1:1").output


def test_a_letter_of_a_worker_is_meant_and_not_that_of_another_with_its_number(config):
    done = run(dlq, "drop", "-c", config, "1:1", "--yes", "--json")
    assert json.loads(done.stdout) == {"dropped": 1}
    assert letters(config) == [(0, 1)]
    run(dlq, "replay", "-c", config, "1")
    assert letters(config) == []


def test_filters_and_all_mean_all_journals(config):
    changed = run_or_raise(
        dlq, "edit", "-c", config, "--type", "request", "-m", "root.n = 1", "--json"
    )
    assert json.loads(changed.stdout) == {"changed": 2, "replayed": 0, "left": []}
    replayed = run(dlq, "replay", "-c", config, "--all", "--dedupe-window", "2000000h", "--json")
    assert json.loads(replayed.stdout) == {"replayed": 2, "beyond_dedupe_window": []}
    waiting = run(buffer, "dump", "-c", config).stdout.splitlines()
    assert len(waiting) == 4


def test_what_is_not_there_is_said_and_nothing_is_done(config):
    with pytest.raises(CollectorError, match="no letter 1:7"):
        run_or_raise(dlq, "drop", "-c", config, "1", "1:7", "--yes")
    with pytest.raises(ConfigError, match="no journal of worker 4"):
        run_or_raise(dlq, "show", "-c", config, "4:1")
    assert "is no letter" in CliRunner().invoke(dlq, ["show", "-c", str(config), "x"]).output
    assert len(letters(config)) == 2


def run_or_raise(*arguments):
    done = run(*arguments)
    if done.exception:
        raise done.exception
    return done


def test_an_event_s_life_is_found_in_whichever_it_was(config):
    assert run(trace, "6", "-c", config).return_value == 0
    assert "refused" in run(trace, "11", "-c", config).output
    assert run(trace, "999", "-c", config).return_value == 1


def test_the_file_commands_go_through_all(config):
    def each(command, *more):
        return lines(run_or_raise(buffer, command, "-c", config, *more))

    assert [one["events"] for one in each("stat", "--json")] == [1, 1]
    assert [one["whole"] for one in each("verify", "--json")] == [True, True]
    assert run(buffer, "verify", "-c", config).output.count("whole") == 2
    assert [one["event"] for one in each("export")] == [(EVENT % 6).decode(), (EVENT % 16).decode()]
    assert len(each("compact", "--json")) == 2
    assert [one["events"] for one in each("repair", "--json")] == [1, 1]


def test_a_roll_that_cannot_be_read_is_said(config):
    (config.parent / "buffer.db.workers").write_text("?")
    with pytest.raises(StorageError, match="how many workers"):
        run_or_raise(ledger, "-c", config)
