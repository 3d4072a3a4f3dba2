"""A real server of each kind, once for a run of the tests; skipped by name where one is missing."""

import pytest

from kit.databases import SERVERS
from openmeter_collector.components.sql import reading


@pytest.fixture(scope="session", params=SERVERS)
def server(request):
    """Each kind of server in turn."""
    yield from _started(request.param)


@pytest.fixture(scope="session")
def postgres():
    yield from _started("postgres")


def _started(kind):
    if kind not in _RUNNING:
        manager = SERVERS[kind]()
        _RUNNING[kind] = manager, manager.__enter__()
    yield _RUNNING[kind][1]


_RUNNING: dict = {}


def pytest_sessionfinish():
    for manager, _ in _RUNNING.values():
        manager.__exit__(None, None, None)
    _RUNNING.clear()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """What an input waits after a query that failed is not what these tests are about."""
    monkeypatch.setattr(reading, "_PAUSE", 0.0)
