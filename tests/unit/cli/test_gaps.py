"""The `gaps` command, with nobody running."""

import asyncio

import orjson
import pytest
from click.testing import CliRunner

from openmeter_collector.cli.gaps import gaps
from openmeter_collector.engine.stores.file import FileBackend
from openmeter_collector.engine.stores.shared import Kept
from openmeter_collector.errors import ConfigError, StorageError
from openmeter_collector.message import Checkpoint, Delivery
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.storage.schema import FileLock
from openmeter_collector.values.schedule import parse_schedule
from openmeter_collector.values.windows import Ledger, Window, grid_of

T = 1_700_000_000_000


def ledger():
    made = Ledger.begin(grid_of(parse_schedule("10s")), T)
    made.advance(grid_of(parse_schedule("10s")), T + 60_000)
    made.done(Window(T, T + 20_000))
    made.lose(Window(T + 20_000, T + 40_000), "older than 2h")
    made.done(Window(T + 40_000, T + 50_000))
    return made


@pytest.fixture
async def config(tmp_path):
    path = tmp_path / "buffer.db"
    async with Journal.open(JournalOptions(path, min_free_bytes=0)) as journal:
        checkpoints = [Checkpoint("/pods/windows", ledger().encode()), Checkpoint("/x/c", b"7")]
        journal.write(Delivery([], None, tuple(checkpoints)))
    made = tmp_path / "config.yaml"
    made.write_text(
        f"http: {{address: '127.0.0.1:9'}}\nbuffer: {{sqlite: {{path: '{path}'}}}}\n"
        "input: {generate: {mapping: 'root = 1'}}\noutput: {drop: {}}\n"
    )
    return made


def called(*arguments):
    return CliRunner().invoke(gaps, [str(one) for one in arguments], standalone_mode=False)


def test_gaps_are_listed_with_their_causes(config):
    said = called("-c", config)
    assert said.return_value == 1, "there are some"
    assert "pods/windows: each window is accounted for up to 2023-11-14T22:14:20Z" in said.output
    assert "lost  2023-11-14T22:13:40Z .. 2023-11-14T22:14:00Z  older than 2h" in said.output
    assert "open  2023-11-14T22:14:10Z .. 2023-11-14T22:14:20Z  not fetched yet" in said.output
    assert "x/c" not in said.output


def test_what_is_lost_is_filled_or_accepted_in_part(config):
    called("accept", "-c", config, "--to", "2023-11-14T22:13:50Z")
    found = orjson.loads(called("-c", config, "--format", "json").output)
    assert [one["start"] for one in found[0]["lost"]] == ["2023-11-14T22:13:50Z"]
    called("fill", "-c", config)
    found = orjson.loads(called("-c", config, "--format", "json").output)
    assert found[0]["lost"] == []
    assert [one["start"] for one in found[0]["open"]] == [
        "2023-11-14T22:13:50Z",
        "2023-11-14T22:14:10Z",
    ]


@pytest.mark.parametrize("action", ["accept", "fill"])
def test_an_action_that_had_nothing_to_do_says_why(config, action):
    elsewhere = called(action, "-c", config, "--from", "2023-11-15T00:00:00Z")
    assert "no lost window lies between --from and --to" in elsewhere.output
    assert "nothing was" not in called("accept", "-c", config).output
    only_open = called(action, "-c", config)
    assert "what is open is not lost, it is fetched as soon as the source answers" in (
        only_open.output
    )
    found = orjson.loads(called(action, "-c", config, "--format", "json").output)
    assert found[0]["changed"] is False


def test_a_journal_that_is_in_use_is_not_changed(config):
    lock = FileLock(config.with_name("buffer.db"))
    try:
        said = called("accept", "-c", config)
        assert isinstance(said.exception, StorageError)
        assert "in use" in str(said.exception)
        assert "lost" in called("-c", config).output, "but it can be looked at"
    finally:
        lock.release()


async def test_positions_of_replicas_are_looked_up_where_they_share_them(config, tmp_path):
    backend = FileBackend(tmp_path / "lock.state")
    await backend.write({"/pods/windows": Kept(4, ledger().encode()), "/c": Kept(4, b"7")})
    election = f"leader_election: {{enabled: true, file: {{path: '{tmp_path}/lock'}}}}\n"
    config.write_text(config.read_text() + election)
    said = await asyncio.to_thread(called, "accept", "-c", config, "--format", "json")
    (found,) = orjson.loads(said.output)
    assert found["lost"] == []
    assert found["open"]
    kept = await backend.read("/pods/windows")
    assert kept.term == 4
    assert Ledger.decode(kept.value).lost == []


def test_a_moment_without_a_zone_is_refused(config):
    said = called("accept", "-c", config, "--from", "2023-11-14T22:13:50")
    assert isinstance(said.exception, ConfigError)
    assert "no time zone" in str(said.exception)


def test_a_place_without_windows_is_said(tmp_path):
    said = called("--journal", tmp_path / "none.db")
    assert isinstance(said.exception, StorageError)
    assert "there is no journal" in str(said.exception)
