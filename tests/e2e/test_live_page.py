"""The live page in a real browser, in front of a running collector."""

import base64
import hashlib
import json
import re

import aiohttp
import pytest
from playwright.async_api import async_playwright, expect

from kit.needs import require
from openmeter_collector.testing.process import collector_process
from openmeter_collector.testing.sandbox import Sandbox
from openmeter_collector.testing.sandbox.faults import Refuse

CONFIG = """
http:
  address: 127.0.0.1:0
  basic_auth: {{enabled: true, username: admin, password_hash: "{hash}"}}
logger: {{format: json}}
input: {{cloudevents: {{address: 127.0.0.1:0}}}}
buffer: {{sqlite: {{path: {path}}}}}
pipeline: {{processors: [{{label: tidy, mapping: root = this}}]}}
output: {{openmeter: {{url: "{url}", token: planted-canary}}}}
"""


def event(number, kind="request"):
    return {
        "specversion": "1.0", "id": f"e{number}", "source": "shop", "type": kind,
        "subject": "customer-1", "time": "2026-01-01T00:00:00Z", "data": {"n": number},
    }  # fmt: skip


@pytest.fixture
async def running(tmp_path):
    digest = base64.b64encode(hashlib.sha256(b"sesame").digest()).decode()
    async with Sandbox().serve() as sandbox:
        sandbox.set_faults(Refuse(status=400, type="bad"))
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(hash=digest, path=tmp_path / "b.db", url=sandbox.url))
        async with collector_process(
            "run", "-c", str(path), log_file=tmp_path / "log"
        ) as collector:
            yield collector, sandbox


@pytest.fixture
async def browser():
    program = require("Chromium")
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
        yield made
        await made.close()


async def send(collector, *events):
    headers = {"content-type": "application/cloudevents-batch+json"}
    async with aiohttp.ClientSession() as client:
        url = f"{collector.ingest}/api/v1/events"
        async with client.post(url, data=json.dumps(events), headers=headers) as answer:
            assert answer.status == 204


class Watched:
    """A page of which nothing goes unseen: errors, and requests to other hosts."""

    def __init__(self, page, origin):
        self.page, self.wrong = page, []
        page.on("console", lambda one: self.wrong.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on(
            "request",
            lambda one: None if one.url.startswith(origin) else self.wrong.append(one.url),
        )


async def opened(browser, collector, path="/ui", **context):
    made = await browser.new_context(
        http_credentials={"username": "admin", "password": "sesame"}, **context
    )
    watched = Watched(await made.new_page(), collector.service)
    await watched.page.goto(f"{collector.service}{path}")
    return watched


async def test_an_operator_sees_what_happens_and_brings_a_dead_letter_back(running, browser):
    collector, sandbox = running
    watched = await opened(browser, collector)
    page = watched.page
    await expect(page.locator("#summary")).to_contain_text("Ready")
    await expect(page.locator('[data-path="root.pipeline.processors.0"]')).to_contain_text("tidy")
    await send(collector, *(event(number) for number in range(20)), event(77, "bad"))
    facts = page.locator(".pipeline dl.facts")
    await expect(facts).to_contain_text("delivered20 events", timeout=20_000)

    await page.locator("#letters input[type=search]").fill("e77")
    await page.locator("#letters button", has_text="Search").click()
    await page.get_by_role("button", name="Open letter").click(timeout=20_000)
    dialog = page.locator("#letter")
    await expect(dialog).to_contain_text("400")
    mended = json.dumps(event(77))
    await dialog.locator("textarea").fill(mended)
    await dialog.get_by_role("button", name="Save the change").click()
    await expect(dialog).to_contain_text("editedyes")
    await dialog.get_by_role("button", name="Replay").click()
    await expect(dialog).not_to_be_visible()
    await sandbox.wait_for_events(21)
    await expect(page.locator("#letters tbody")).to_contain_text("No dead letters.")

    await page.locator("#tail").get_by_role("button", name="Life of event").first.click()
    await expect(page.locator("#life")).to_contain_text("Life of event")
    await page.locator("#life").get_by_role("button", name="Close").click()

    await page.locator("#tail input[type=search]").fill("no such event")
    await page.locator("#tail form button").click()
    await expect(page.locator("#tail tbody")).to_contain_text("nothing that fits")
    assert "planted-canary" not in await page.content()
    assert watched.wrong == []


async def test_the_page_fits_a_phone_works_by_keyboard_and_passes_axe(running, browser):
    checker = require("axe-core").read_text()
    collector, _ = running
    await send(collector, event(1))
    for scheme, width in (("light", 1200), ("dark", 360)):
        watched = await opened(
            browser, collector, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        page = watched.page
        await expect(page.locator("#ledger tbody")).to_contain_text("all hours")
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        # Evaluated in the page by the debugger, which its policy does not bind.
        await page.evaluate(checker)
        found = await page.evaluate("axe.run()")
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
        assert watched.wrong == []


async def test_the_playground_marks_the_place_of_an_error(running, browser):
    collector, _ = running
    watched = await opened(browser, collector, "/ui/playground/")
    page = watched.page
    boxes = page.locator("textarea")
    await boxes.nth(0).fill('{"n": 20}')
    await boxes.nth(1).fill("root.twice = this.n * 2")
    await expect(page.locator(".pane-result")).to_contain_text("40")
    await boxes.nth(1).fill("root.a = 1\nroot.b = this.n.upercase()")
    await expect(page.locator(".line.wrong")).to_have_text(re.compile("2"))
    assert watched.wrong == []
