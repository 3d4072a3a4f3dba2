"""The collector inside a Python program."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from openmeter_collector import Collector
from openmeter_collector.api import Delivery, Message, field, input
from openmeter_collector.errors import ConfigError
from openmeter_collector.testing.sandbox import Sandbox

EVENT = {
    "specversion": "1.0", "id": "1", "source": "app", "type": "request", "subject": "c",
    "time": "2026-01-01T00:00:00Z", "data": {"n": 1},
}  # fmt: skip
TO_DISK = """
buffer: {sqlite: {path: PATH}}
output: {openmeter: {url: URL}}
shutdown_timeout: 5s
"""


def config(tmp_path, url):
    return TO_DISK.replace("PATH", str(tmp_path / "b.db")).replace("URL", url)


async def test_what_is_pushed_is_delivered_and_the_block_ends_in_order(tmp_path):
    lines = []
    async with Sandbox().serve() as sandbox:
        async with Collector(config(tmp_path, sandbox.url), log=lines.append) as collector:
            await collector.push(EVENT, {**EVENT, "id": "2"})
            await collector.push(
                b'{"specversion":"1.0","id":"3","source":"app","type":"t","subject":"c"}'
            )
            assert await collector.offer([{**EVENT, "id": "4"}]) is None
            await collector.flush()
            assert collector.backlog.events == 0
            assert [one.id for one in sandbox.events] == ["1", "2", "3", "4"]
    assert collector.ended.delivered == 4
    assert not any("serving" in line for line in lines)  # no port that nobody asked for


async def test_push_returns_when_events_are_on_disk_and_the_next_start_delivers_them(tmp_path):
    away = config(tmp_path, "http://127.0.0.1:1").replace("5s", "0s")
    async with Collector(away, log=[].append) as collector:
        await collector.push(EVENT)
        assert collector.backlog.events == 1
    assert collector.ended.left_events == 1
    async with Sandbox().serve() as sandbox:
        async with Collector(config(tmp_path, sandbox.url), log=[].append) as collector:
            await collector.flush()
        assert [one.id for one in sandbox.events] == ["1"]


async def test_an_input_of_the_config_runs_beside_what_is_pushed(tmp_path):
    text = """
input: {generate: {count: 1, interval: "", mapping: 'root.id = "made"'}}
buffer: {none: {}}
output: {file: {path: PATH}}
""".replace("PATH", str(tmp_path / "out"))
    async with Collector(text, log=[].append) as collector:
        await collector.push({"id": "pushed"})
        while len((tmp_path / "out").read_text().splitlines()) < 2:
            await asyncio.sleep(0.01)
    assert sorted((tmp_path / "out").read_text().splitlines()) == [
        '{"id":"made"}', '{"id":"pushed"}',
    ]  # fmt: skip


async def test_without_a_buffer_the_verdict_of_the_destination_is_raised():
    text = "buffer: {none: {}}\noutput: {reject: not today}\n"
    async with Collector(text, log=[].append) as collector:
        told = collector.offer([{"id": "1"}])
        with pytest.raises(Exception, match="not today"):
            await collector.push({"id": "1"})
        assert "not today" in str(await told)


async def test_a_config_that_cannot_be_run_is_said_with_its_place(tmp_path):
    with pytest.raises(ConfigError, match="nothing"):
        async with Collector("output:\n  nothing: {}\n"):
            pass
    broken = tmp_path / "no folder" / "c.yaml"
    with pytest.raises(ConfigError, match="no folder"):
        async with Collector(broken):
            pass
    unusable = "buffer:\n  sqlite: {path: /dev/null/b.db}\noutput: {drop: {}}\n"
    with pytest.raises(Exception, match="/dev/null"):
        async with Collector(unusable, log=[].append):
            pass


async def test_outside_of_the_block_nothing_is_taken():
    collector = Collector("output:\n  drop: {}\n", log=[].append)
    with pytest.raises(RuntimeError, match="async with"):
        await collector.push(EVENT)
    async with collector:
        await collector.push(EVENT)
    with pytest.raises(RuntimeError, match="async with"):
        await collector.push(EVENT)


@input("twice")
class Twice:
    """A component of the program that embeds."""

    text: str = field(doc="What to say.")

    @asynccontextmanager
    async def open(self, env):
        yield SaysTwice(self.text)


class SaysTwice:
    def __init__(self, text):
        self.text = text

    async def run(self, intake):
        for _ in range(2):
            await intake.put(Delivery([Message(self.text.encode())]))


async def test_components_of_the_program_are_used_like_any_other(tmp_path):
    text = f"input: {{twice: {{text: hello}}}}\noutput: {{file: {{path: {tmp_path}/out}}}}\n"
    registry = Collector.components().with_(Twice)
    async with Collector(text, registry=registry, log=[].append):
        while not (tmp_path / "out").exists() or (tmp_path / "out").read_text() != "hello\nhello\n":
            await asyncio.sleep(0.01)


async def test_a_file_may_be_a_device():
    text = "buffer: {none: {}}\noutput: {file: {path: /dev/null}}\n"
    async with Collector(text, log=[].append) as collector:
        await collector.push(EVENT)
