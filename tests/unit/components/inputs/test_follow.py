"""Following files: every line once, whatever happens to the file and to us."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from kit.pipes import REGISTRY, SCRIPTS, WRITTEN
from kit.waiting import eventually
from openmeter_collector.components.inputs import following
from openmeter_collector.errors import ConfigError
from openmeter_collector.testing.running import running

CONFIG = """
http: {{enabled: false}}
input:
  file:
    paths: [ "{folder}/app.log*" ]
    follow: true
    poll_interval: 10ms
{more}
buffer:
  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}
pipeline:
  processors:
    - mapping: 'root = content().string() + "|" + meta("file_id")'
output:
  scripted: {{name: out}}
"""


@pytest.fixture(autouse=True)
def clean():
    WRITTEN.clear()
    SCRIPTS.clear()


def config(folder, more=""):
    return CONFIG.format(folder=folder, more=more)


def got():
    return [line for batch in WRITTEN.get("out", ()) for line in batch]


def lines():
    return [line.partition("|")[0] for line in got()]


def append(path, text):
    with path.open("a") as file:
        file.write(text)


async def test_what_is_appended_comes_line_by_line_and_half_a_line_waits(tmp_path):
    log = tmp_path / "app.log"
    append(log, "1\n2\nhal")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1", "2"])
        append(log, "f\n3\n")
        await eventually(lambda: lines() == ["1", "2", "half", "3"])
    assert len(set(got())) == 4


async def test_a_file_that_comes_later_is_followed_too(tmp_path):
    async with running(config(tmp_path), REGISTRY):
        append(tmp_path / "app.log", "1\n")
        await eventually(lambda: lines() == ["1"])
        append(tmp_path / "app.log.new", "2\n")
        await eventually(lambda: lines() == ["1", "2"])


async def test_after_a_restart_reading_goes_on_where_it_was_with_the_same_ids(tmp_path):
    log = tmp_path / "app.log"
    append(log, "1\n2\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1", "2"])
    append(log, "3\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1", "2", "3"])
    ids = [line.partition("|")[2] for line in got()]
    assert [one.rpartition("-")[2] for one in ids] == ["0", "1", "2"]
    assert len({one.rpartition("-")[0] for one in ids}) == 1


async def test_a_rotated_file_is_read_to_its_end_and_not_again(tmp_path):
    log = tmp_path / "app.log"
    append(log, "1\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1"])
        with log.open("a") as writer:
            log.rename(tmp_path / "app.log.1")
            append(log, "3\n")
            writer.write("2\n")
        await eventually(lambda: sorted(lines()) == ["1", "2", "3"])
    async with running(config(tmp_path), REGISTRY):
        append(log, "4\n")
        await eventually(lambda: sorted(lines()) == ["1", "2", "3", "4"])


async def test_a_file_that_is_rotated_while_we_are_away_is_read_from_where_it_was(tmp_path):
    log = tmp_path / "app.log"
    append(log, "1\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1"])
    append(log, "2\n")
    log.rename(tmp_path / "app.log.1")
    append(log, "3\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: sorted(lines()) == ["1", "2", "3"])


async def test_a_truncated_file_is_read_from_its_beginning_with_other_ids(tmp_path):
    log = tmp_path / "app.log"
    append(log, "1\n2\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1", "2"])
        os.truncate(log, 0)
        await eventually(lambda: not log.stat().st_size)
        append(log, "1\n")
        await eventually(lambda: lines() == ["1", "2", "1"])
    assert len(set(got())) == 3


async def test_a_file_that_was_replaced_in_place_while_we_were_away_is_known_by_its_head(tmp_path):
    log = tmp_path / "app.log"
    append(log, "1\n2\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1", "2"])
    with log.open("r+") as file:
        file.write("5\n6\n7\n")
    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1", "2", "5", "6", "7"])


async def test_a_file_without_a_name_is_let_go_of_when_nothing_comes_any_more(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(following, "_QUIET", 0.05)
    log = tmp_path / "app.log"
    append(log, "1\n")

    async with running(config(tmp_path), REGISTRY):
        await eventually(lambda: lines() == ["1"])
        log.unlink()
        await eventually(lambda: not any("app.log" in name for name in links()))
        append(log, "2\n")
        await eventually(lambda: lines() == ["1", "2"])


def links():
    """What this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


async def test_with_start_at_end_only_what_is_appended_comes_also_after_a_restart(tmp_path):
    log = tmp_path / "app.log"
    append(log, "old\n")
    more = "    start_at: end"
    async with running(config(tmp_path, more), REGISTRY) as collector:
        await collector.until_connected()
        await eventually(lambda: any("app.log" in name for name in links()))
        append(tmp_path / "app.log.2", "new\n")
        await eventually(lambda: lines() == ["new"])
    append(log, "1\n")
    append(tmp_path / "app.log.3", "while away\n")
    async with running(config(tmp_path, more), REGISTRY):
        await eventually(lambda: sorted(lines()) == ["1", "new", "while away"])


async def test_following_and_deleting_do_not_go_together(tmp_path):
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(config(tmp_path, "    delete_on_finish: true"), REGISTRY) as collector:
            await eventually(lambda: collector.over)
    found = caught.value.subgroup(ConfigError)
    assert found is not None
    assert "do not go together" in str(found.exceptions[0])
