"""What the clients of end-to-end tests are pointed at."""

import pytest
from playwright.async_api import async_playwright

from kit.needs import require
from kit.targets import TOKEN, Target, collector_target
from openmeter_collector.testing.sandbox import Sandbox


@pytest.fixture
async def browser():
    program = require("Chromium")
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
        yield made
        await made.close()


@pytest.fixture
def start_collector(tmp_path):
    """To start a collector with settings of one's own, in front of a sandbox."""
    return lambda **options: collector_target(tmp_path, **options)


@pytest.fixture
async def sandbox():
    async with Sandbox(tokens=[TOKEN]).serve() as running:
        yield Target(running.url, TOKEN, running)


@pytest.fixture(params=["sandbox", "collector"])
async def target(request, tmp_path):
    """Both in turn: what holds for OpenMeter must hold for the collector in front of it."""
    if request.param == "sandbox":
        async with Sandbox(tokens=[TOKEN]).serve() as running:
            yield Target(running.url, TOKEN, running)
    else:
        async with collector_target(tmp_path) as made:
            yield made
