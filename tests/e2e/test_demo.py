"""The demo as a person starts it: the installed command, real ports, a real terminal."""

import asyncio
import os
import pty
import re
import signal
import sys
import time

import pytest

COMMAND = [sys.executable, "-m", "openmeter_collector.cli.main", "demo", "--any-port"]


async def start(*options, **streams):
    streams = {"stdout": asyncio.subprocess.PIPE, **streams}
    return await asyncio.create_subprocess_exec(
        *COMMAND, *options, start_new_session=True, **streams
    )


def press_ctrl_c(process):
    """As a terminal does: to the whole group, so also to children that did not leave it."""
    os.killpg(process.pid, signal.SIGINT)


async def run(*options):
    process = await start(*options)
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


def figure(text, name):
    return int(re.search(rf"^{name}\s+([\d,]+)", text, re.MULTILINE)[1].replace(",", ""))


async def test_an_outage_is_seen_and_nothing_is_lost(tmp_path):
    code, text = await run(
        "--folder", str(tmp_path / "d"), "--duration", "8", "--rate", "200",
        "--outage", "--outage-after", "1", "--outage-for", "2",
    )  # fmt: skip
    assert code == 0, text
    assert "OpenMeter DOWN" in text
    backlog = [int(n) for n in re.findall(r"buffered (\d+)", text)]
    assert max(backlog) > 200
    assert figure(text, "sent") >= 1000
    assert figure(text, "sent") == figure(text, "acknowledged") == figure(text, "delivered")
    assert figure(text, "left on disk") == 0
    assert "Every acknowledged event is delivered or on disk." in text
    assert str(tmp_path / "d" / "collector.log") in text


@pytest.mark.slow
async def test_ctrl_c_leaves_the_backlog_on_disk_and_the_next_demo_delivers_it(tmp_path):
    process = await start(
        "--folder", str(tmp_path), "--outage", "--outage-after", "0", "--outage-for", "600"
    )
    printed = b""
    while not re.search(rb"buffered [1-9]\d+", printed):
        line = await process.stdout.readline()
        assert line, printed
        printed += line
    press_ctrl_c(process)
    printed += (await process.communicate())[0]
    left = figure(printed.decode(), "left on disk")
    assert process.returncode == 0
    assert left == figure(printed.decode(), "acknowledged") >= 10
    code, text = await run("--folder", str(tmp_path), "--duration", "3", "--rate", "20")
    assert code == 0
    assert f"found at the start: {left} events of an earlier run" in text
    assert figure(text, "left on disk") == 0


async def test_a_second_ctrl_c_does_not_wait(tmp_path):
    process = await start(
        "--folder", str(tmp_path), "--outage", "--outage-after", "0", "--outage-for", "600"
    )
    printed = b""
    while not re.search(rb"buffered [1-9]\d+", printed):
        printed += await process.stdout.readline()
    press_ctrl_c(process)
    seen = len(printed)
    while b"sent" not in printed[seen:]:
        printed += await process.stdout.readline()
    press_ctrl_c(process)
    began = time.monotonic()
    printed += (await process.communicate())[0]
    assert time.monotonic() - began < 5
    assert process.returncode == 0
    left = figure(printed.decode(), "left on disk")
    assert left == figure(printed.decode(), "acknowledged") >= 10


async def test_a_terminal_gets_a_picture_that_is_drawn_over_itself(tmp_path):
    ours, theirs = pty.openpty()
    process = await start(
        "--folder", str(tmp_path), "--duration", "2", stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    printed = await asyncio.to_thread(read_all, ours)
    assert await process.wait() == 0
    text = printed.decode()
    for expected in ("local OpenMeter is", "buffered", "customer-0", "gpu", "curl -i http://127"):
        assert expected in text
    assert re.search(r"\x1b\[\d+A", text)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def read_all(descriptor):
    read = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other side of a pty is gone
            piece = b""
        if not piece:
            os.close(descriptor)
            return read
        read += piece


async def test_a_collector_that_cannot_start_is_shown(tmp_path):
    (tmp_path / "buffer.db").mkdir()
    process = await start("--folder", str(tmp_path), stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"the collector ended by itself" in errors
    assert b"buffer.db" in errors
