"""A collector started as a child: it serves, it can be killed, and it is never left over."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from kit.waiting import eventually
from openmeter_collector.testing.process import CollectorFailed, collector_process

ORPHAN = """
import asyncio, os, pathlib, sys
from openmeter_collector.testing.process import collector_process

async def main():
    folder = pathlib.Path(sys.argv[1])
    place = {"BUFFER_PATH": str(folder / "b.db"), "HTTP_ADDRESS": "127.0.0.1:0",
             "METRICS_ADDRESS": "127.0.0.1:0", "OPENMETER_URL": "http://127.0.0.1:1"}
    arguments = ("run", "--preset", "http-server")
    log = folder / "log"
    async with collector_process(*arguments, log_file=log, environment=place) as child:
        print(child.process.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_a_collector_ends_with_the_process_that_started_it(tmp_path):
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    child = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    assert is_running(child)
    parent.kill()
    await parent.wait()
    try:
        await eventually(lambda: not is_running(child))
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


async def test_a_collector_that_does_not_start_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(CollectorFailed, match="nowhere"):
        async with collector_process("run", "--preset", "nowhere", log_file=tmp_path / "log"):
            pytest.fail("it cannot run")


async def test_killing_is_seen(start_collector):
    async with start_collector() as target:
        target.collector.kill()
        assert await target.collector.wait() == -signal.SIGKILL
        assert target.collector.ended
