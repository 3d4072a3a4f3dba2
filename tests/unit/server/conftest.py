"""Fixtures on the helpers in `wire.py`, which the tests import by name."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from wire import Echo, Running, connected, read_to_end

from openmeter_collector.component.env import ListenOptions


@pytest.fixture
def serve():
    running = []

    def start(app=None, **options):
        one = Running(app or Echo(), ListenOptions("127.0.0.1:0", **options))
        running.append(one)
        return one

    yield start
    for one in running:
        one.join()


@pytest.fixture
def talk():
    """Send bytes, return everything until the connection ends."""

    def say(server, data):
        with connected(server) as line:
            with suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(data)
            return read_to_end(line)

    return say
