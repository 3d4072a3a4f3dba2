"""The live page in a real browser, in front of a running collector."""

import json

import aiohttp
import pytest
from playwright.async_api import expect

from kit.browsing import PASSWORD_HASH, faults_of, opened, overflow_of
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
    async with Sandbox().serve() as sandbox:
        sandbox.set_faults(Refuse(status=400, type="bad"))
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(hash=PASSWORD_HASH, path=tmp_path / "b.db", url=sandbox.url))
        async with collector_process(
            "run", "-c", str(path), log_file=tmp_path / "log"
        ) as collector:
            yield collector, sandbox


async def send(collector, *events):
    headers = {"content-type": "application/cloudevents-batch+json"}
    async with aiohttp.ClientSession() as client:
        url = f"{collector.ingest}/api/v1/events"
        async with client.post(url, data=json.dumps(events), headers=headers) as answer:
            assert answer.status == 204


async def test_an_operator_sees_what_happens_and_brings_a_dead_letter_back(running, browser):
    collector, sandbox = running
    watched = await opened(browser, collector.service)
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
    await expect(dialog.get_by_role("button", name="Replay")).to_have_text("Replay")
    await dialog.locator("textarea").fill("{}")
    await dialog.get_by_role("button", name="Save the change").click()
    await expect(dialog).to_contain_text("editedyes")
    await dialog.locator("textarea").fill(mended)
    await dialog.get_by_role("button", name="Save and replay").click()
    await expect(dialog).not_to_be_visible()
    await sandbox.wait_for_events(21)
    await expect(page.locator("#letters tbody")).to_contain_text("No dead letters.")

    await page.locator("#tail").get_by_role("button", name="Life of event").first.click()
    await expect(page.locator("#life")).to_contain_text("Life of event")
    await page.locator("#life").get_by_role("button", name="Close").click()

    await page.locator("#tail input[type=search]").fill("no such event")
    await page.locator("#tail form button").click()
    await expect(page.locator("#tail tbody")).to_contain_text("Nothing that fits")
    await page.locator("#tail input[type=search]").fill("e3")
    await page.locator("#tail form button").click()
    await page.get_by_role("button", name="Look up the life of event e3").click()
    await expect(page.locator("#life")).to_contain_text("Life of event e3")
    await page.locator("#life").get_by_role("button", name="Close").click()
    await expect(facts).to_contain_text("last answeraccepted")
    await expect(facts).to_contain_text("last event refused")
    await expect(facts).to_contain_text("400 Bad Request")
    assert "planted-canary" not in await page.content()
    assert watched.wrong == []


async def test_the_page_fits_a_phone_works_by_keyboard_and_passes_axe(running, browser):
    collector, _ = running
    await send(collector, event(1))
    for scheme, width in (("light", 1200), ("dark", 360)):
        watched = await opened(
            browser,
            collector.service,
            color_scheme=scheme,
            viewport={"width": width, "height": 800},
        )
        page = watched.page
        await expect(page.locator("#ledger tbody")).to_contain_text("all hours")
        assert await overflow_of(page) <= 0
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        assert await faults_of(page) == []
        assert watched.wrong == []


SHARED = """
http: {{address: 127.0.0.1:0}}
logger: {{format: json}}
leader_election: {{enabled: true, file: {{path: {folder}/lock}}}}
cache_resources: [{{label: seen, memory: {{}}}}]
"""
TAKES = """
input: {{cloudevents: {{address: 127.0.0.1:0}}}}
buffer: {{sqlite: {{path: {folder}/takes.db}}}}
output: {{drop: {{}}}}
"""
ASKS = """
input:
  label: asks
  prometheus:
    url: http://127.0.0.1:9
    schedule: "* * * * * *"
    queries: [{{query: {{name: up, promql: up}}}}]
buffer: {{sqlite: {{path: {folder}/asks.db}}}}
output: {{drop: {{}}}}
"""


async def test_streams_are_looked_at_one_by_one_with_windows_resources_and_who_leads(
    tmp_path, browser
):
    folder = tmp_path / "streams"
    folder.mkdir()
    for path, text in (
        (tmp_path / "shared.yaml", SHARED),
        (folder / "asks.yaml", ASKS),
        (folder / "takes.yaml", TAKES),
    ):
        path.write_text(text.format(folder=tmp_path))
    arguments = ("-c", str(tmp_path / "shared.yaml"), "streams", str(folder))
    async with collector_process(*arguments, log_file=tmp_path / "log") as collector:
        watched = await opened(browser, collector.service)
        page = watched.page
        await expect(page.locator("#summary")).to_contain_text("leads as")
        await expect(page.locator("#resources")).to_contain_text("seen")
        windows = page.locator("#windows")
        await expect(windows.locator(".badge")).to_contain_text("open", timeout=30_000)
        await expect(windows).to_contain_text("asks: asks/up")
        await expect(windows).to_contain_text("cannot connect to 127.0.0.1:9", timeout=30_000)
        await send(collector, event(1), event(2))
        await page.get_by_label("Ledger, dead letters and events of").select_option("takes")
        await expect(page.locator("#ledger tbody tr").first).to_contain_text("2", timeout=20_000)
        await expect(page.locator("#tail tbody")).to_contain_text("e2")
        await page.get_by_label("Ledger, dead letters and events of").select_option("asks")
        await expect(page.locator("#tail tbody")).to_contain_text("Nothing passed yet")
        assert await faults_of(page) == []
        assert watched.wrong == []
