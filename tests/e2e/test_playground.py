"""The playground in a real browser: a config's mappings, real events, and the test that comes of them."""

import asyncio
import json
import os
import re
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from playwright.async_api import expect

from kit.browsing import PASSWORD_HASH, faults_of, opened, overflow_of
from openmeter_collector.testing.process import collector_process

CONFIG = """
http:
  address: 127.0.0.1:0
  basic_auth: {{enabled: true, username: admin, password_hash: "{hash}"}}
logger: {{format: json}}
input: {{cloudevents: {{address: 127.0.0.1:0}}}}
buffer: {{sqlite: {{path: {path}}}}}
pipeline:
  processors:
    - label: tidy
      mapping: |
        root = this
        root.data.n = this.data.n * 2
    - mutation: root.data.key = "${{PLANTED_TOKEN}}"
output: {{drop: {{}}}}
"""


@asynccontextmanager
async def command(*arguments, **env):
    """The command line at work; killed at the end if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "openmeter_collector.cli.main", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | env,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def tested(config):
    """What `test` says of a config."""
    async with command("test", "-v", str(config), PLANTED_TOKEN="another") as process:
        return (await process.communicate())[0].decode()


def event(number):
    return {
        "specversion": "1.0", "id": f"e{number}", "source": "shop", "type": "request",
        "subject": "planted-canary", "time": "2026-01-01T00:00:00Z", "data": {"n": number},
    }  # fmt: skip


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "collector.yaml"
    path.write_text(CONFIG.format(hash=PASSWORD_HASH, path=tmp_path / "b.db"))
    return path


@pytest.fixture
async def running(config):
    log = config.with_name("log")
    env = {"PLANTED_TOKEN": "planted-canary"}
    async with collector_process(
        "run", "-c", str(config), log_file=log, environment=env
    ) as collector:
        async with aiohttp.ClientSession() as client:
            for number in range(3):
                async with client.post(
                    f"{collector.ingest}/api/v1/events",
                    data=json.dumps(event(number)),
                    headers={"content-type": "application/cloudevents+json"},
                ) as answer:
                    assert answer.status == 204
        yield collector


async def saved(page, name):
    """Save what is on the page as a test of that name: the dialog, and the test in it."""
    await page.get_by_role("button", name="Save as a unit test").click()
    dialog = page.locator("#case")
    await dialog.get_by_label("Name").fill(name)
    await dialog.get_by_label("Name").blur()
    return dialog, dialog.get_by_label("The test")


async def test_a_mapping_of_the_config_and_real_events_become_a_test_that_passes(
    running, config, browser
):
    watched = await opened(browser, running.service, "/ui/playground/")
    page = watched.page
    result = page.locator(".pane-result")
    await expect(result).to_contain_text("HELLO WORLD")
    await page.locator("#mappings summary").click()
    await page.locator("#mappings").get_by_role("button", name="tidy").click()
    await expect(page.locator("#playground-mapping")).to_have_value(re.compile("this.data.n"))
    await page.locator("#events summary").click()
    await page.locator("#events").get_by_role("button", name="e2").click()
    await expect(result).to_contain_text('"n": 4')
    await page.locator("#events summary").click()
    await page.get_by_role("button", name="Take all, one a line").click()
    await expect(result).to_contain_text("Message 3")
    assert "planted-canary" not in await page.content()
    assert "planted-canary" not in await page.locator("#playground-document").input_value()

    dialog, text = await saved(page, "doubles")
    await expect(text).to_have_value(re.compile("name: doubles\n.*target_processors: tidy"))
    async with page.expect_download() as started:
        await dialog.get_by_role("button", name="Download").click()
    download = await started.value
    assert download.suggested_filename == "collector_benthos_test.yaml"
    await download.save_as(config.with_name(download.suggested_filename))
    await expect(dialog.get_by_role("button", name="Add it to")).not_to_be_visible()
    assert watched.wrong == []

    assert "1 of 1 tests passed" in await tested(config)
    config.write_text(config.read_text().replace("* 2", "* 3"))
    assert "doubles" in await tested(config)


async def test_a_late_answer_does_not_replace_the_test_of_the_name_that_was_given_since(
    running, browser
):
    watched = await opened(browser, running.service, "/ui/playground/")
    page = watched.page
    first = asyncio.Event()
    held = []

    async def hold_the_first(route):
        held.append(route)
        if len(held) == 1:
            await first.wait()
        await route.continue_()

    await page.route("**/case", hold_the_first)
    dialog, text = await saved(page, "the second")
    await expect(text).to_have_value(re.compile("name: the second"))
    async with page.expect_response("**/case"):
        first.set()
    await expect(text).to_have_value(re.compile("name: the second"))
    await expect(dialog.get_by_role("button", name="Copy")).to_be_enabled()
    assert watched.wrong == []


async def test_it_works_by_keyboard_fits_a_phone_and_passes_axe(running, browser):
    for scheme, width in (("light", 1200), ("dark", 360)):
        watched = await opened(
            browser, running.service, "/ui/playground/",
            color_scheme=scheme, viewport={"width": width, "height": 800},
        )  # fmt: skip
        page = watched.page
        await expect(page.locator("#mappings .count")).to_have_text("(2)")
        await page.locator("#mappings summary").focus()
        await page.keyboard.press("Enter")
        await page.locator("#events summary").focus()
        await page.keyboard.press("Enter")
        assert await overflow_of(page) <= 0
        assert await faults_of(page) == []
        await page.locator("#mappings .choice").first.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#playground-mapping")).to_be_focused()
        await page.keyboard.press("Escape")
        await page.keyboard.press("Tab")
        await expect(page.locator(".pane-mapping select")).to_be_focused()
        await page.locator("#save").focus()
        await page.keyboard.press("Enter")
        dialog = page.locator("#case")
        await expect(dialog.get_by_label("Name")).to_be_focused()
        await expect(dialog.get_by_label("The test")).to_have_value(re.compile("output_batches"))
        assert await overflow_of(page) <= 0
        assert await faults_of(page) == []
        await page.keyboard.press("Escape")
        await expect(dialog).not_to_be_visible()
        assert watched.wrong == []


async def test_the_place_of_an_error_is_marked_and_what_never_ends_is_ended(running, browser):
    watched = await opened(browser, running.service, "/ui/playground/")
    page = watched.page
    document, mapping = page.locator("#playground-document"), page.locator("#playground-mapping")
    await document.fill('{"n": 20}')
    await mapping.fill("root.twice = this.n * 2")
    await expect(page.locator(".pane-result")).to_contain_text("40")
    await mapping.fill("root.a = 1\nroot.b = this.n.upercase()")
    await expect(page.locator(".line.wrong")).to_have_text(re.compile("2"))
    many = "range(0, 3000).map_each(c -> range(0, 3000).sum()).sum()"
    await mapping.fill(f"root = range(0, 3000).map_each(a -> {many})")
    await expect(page.locator(".pane-result")).to_contain_text(
        "the mapping was stopped", timeout=30_000
    )
    await mapping.fill("root = 7")
    await expect(page.locator(".pane-result .value")).to_have_text("7", timeout=30_000)
    assert watched.wrong == []


async def test_blobl_server_adds_a_test_to_the_file_beside_the_config(config, browser):
    arguments = ("blobl", "server", "-p", "0", "-n", "-c", str(config), "--write-tests")
    async with command(*arguments, PLANTED_TOKEN="planted-canary") as server:
        line = (await server.stdout.readline()).decode()
        watched = await opened(browser, re.search(r"on (http://\S+)/ ", line)[1], "/")
        page = watched.page
        await page.locator("#mappings summary").click()
        await page.locator("#mappings").get_by_role("button", name="tidy").click()
        await page.locator("#playground-document").fill('{"data": {"n": 4}}')
        await expect(page.locator(".pane-result")).to_contain_text('"n": 8')
        await page.get_by_role("button", name="Save as a unit test").click()
        await page.get_by_role("button", name="Add it to collector_benthos_test.yaml").click()
        await expect(page.locator("#case .said")).to_contain_text("Added to")
        assert watched.wrong == []
    assert config.with_name("collector_benthos_test.yaml").is_file()
    assert "1 of 1 tests passed" in await tested(config)
