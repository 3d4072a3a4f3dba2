"""The `sandbox` and `seed` commands as a person starts them; here the event loop is uvloop."""

import asyncio
import json
import re
import signal
import sys
import urllib.error
import urllib.request

import pytest

from kit.waiting import eventually

PROGRAM = [sys.executable, "-m", "openmeter_collector.cli.main"]
EVENT = b'{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"c"}'


async def start(*arguments):
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*PROGRAM, *arguments, stdout=pipe, stderr=pipe)


@pytest.fixture
async def sandbox():
    """Starts sandboxes and gives back process and address; all are ended in the end."""
    started = []

    async def run(*options):
        process = await start("sandbox", "--listen", "127.0.0.1:0", *options)
        started.append(process)
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line, (await process.communicate())[1]
        return process, re.search(rb"http://\S+", line)[0].decode()

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ask(url, method="GET", body=None, **headers):
    def send():
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(send)


async def post(url, **headers):
    kind = {"Content-Type": "application/cloudevents+json"}
    return await ask(f"{url}/api/v1/events", "POST", EVENT, **kind, **headers)


async def test_it_takes_events_and_ctrl_c_ends_it_with_the_counts(sandbox):
    process, url = await sandbox("--token", "t", "--keep", "10")
    assert (await post(url))[0] == 401
    assert (await post(url, Authorization="Bearer t"))[0] == 204
    assert (await ask(f"{url}/sandbox/events"))[1] == EVENT + b"\n"
    process.send_signal(signal.SIGINT)
    printed, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert not errors
    assert b"Authorization: Bearer TOKEN" in printed
    assert b"stopped; 1 events, 0 duplicates" in printed


async def test_ctrl_c_does_not_wait_for_requests_that_hang(sandbox):
    process, url = await sandbox("--fault", "hang")
    asking = asyncio.create_task(post(url))

    async def has_come():
        return json.loads((await ask(f"{url}/sandbox/stats"))[1])["requests"] == 1

    await eventually(has_come)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.wait(), 10)
    assert process.returncode == 0
    with pytest.raises(OSError, match=r"."):
        await asking


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("reset", ConnectionError), ("hang=0.1", ConnectionError), ("status=429", 429), ("junk", 200)],
)
async def test_faults_work_here_too(sandbox, fault, outcome):
    _, url = await sandbox("--fault", f"{fault},times=1")
    if isinstance(outcome, int):
        assert (await post(url))[0] == outcome
    else:
        with pytest.raises((outcome, urllib.error.URLError)):
            await post(url)
    assert (await post(url))[0] == 204


async def test_down_comes_back_by_itself(sandbox):
    _, url = await sandbox("--fault", "down=0.5")
    with pytest.raises(urllib.error.URLError, match="refused"):
        await post(url)

    async def answers():
        try:
            return (await post(url))[0]
        except urllib.error.URLError:
            return None

    assert await eventually(answers) == 204


async def test_a_store_file_is_continued(sandbox, tmp_path):
    file = str(tmp_path / "store.sqlite")
    process, url = await sandbox("--store", file)
    await post(url)
    process.kill()
    await process.wait()
    _, url = await sandbox("--store", file)
    assert (await ask(f"{url}/sandbox/events"))[1] == EVENT + b"\n"


async def test_a_taken_port_and_a_wrong_fault_are_explained(sandbox):
    _, url = await sandbox()
    process = await start("sandbox", "--listen", url.removeprefix("http://"))
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"ddress already in use" in errors
    process = await start("sandbox", "--fault", "explode")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"no fault is called 'explode'" in errors


async def test_seed_sends_so_many_and_ends(sandbox):
    _, url = await sandbox("--token", "t")
    process = await start(
        "seed", "--url", url, "--token", "t", "--rate", "0", "--count", "100", "--batch", "7"
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert b"100 sent, 100 accepted" in printed
    stats = json.loads((await ask(f"{url}/sandbox/stats"))[1])
    assert stats["accepted"] == 100


async def test_seed_says_why_it_was_refused(sandbox):
    _, url = await sandbox("--token", "t")
    process = await start("seed", "--url", url, "--rate", "0", "--count", "3")
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"refused with 401" in errors


async def test_ctrl_c_ends_seed(sandbox):
    _, url = await sandbox()
    process = await start("seed", "--url", url)
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    printed, _ = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 0
    assert b" 0 unanswered" in printed.splitlines()[-1]
