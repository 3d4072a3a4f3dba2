"""What the live page says, to whom, and what it lets be changed."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from html.parser import HTMLParser

import pytest

from kit.pipes import surroundings
from openmeter_collector.admin.live_page import LivePage
from openmeter_collector.admin.snapshot import Gatherer
from openmeter_collector.cli.process import serve
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.component.buffer import BufferStatus, DeadLetter, Undeliverable
from openmeter_collector.config import load
from openmeter_collector.engine.run import Pipeline
from openmeter_collector.errors import BatchFailed
from openmeter_collector.message import Delivery, Message
from openmeter_collector.server.service import Service
from openmeter_collector.storage.journal import Journal, JournalOptions
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.env import ask

CONFIG = """
input: {label: door, generate: {mapping: 'root = {}', count: 0}}
buffer: {sqlite: {path: PATH}}
pipeline: {processors: [{label: tidy, mapping: root = this}]}
output:
  switch:
    cases:
      - output: {openmeter: {url: 'http://127.0.0.1:1', token: planted-canary}}
"""
BAD = b'{"id":"bad-1","source":"s","type":"t","subject":"c","n":1}'


class Page:
    def __init__(self, page, gatherer, status):
        self.page, self.gatherer, self.status = page, gatherer, status

    async def __call__(
        self, path, method="GET", body=None, query="", client="127.0.0.1", **headers
    ):
        given = {"host": "localhost:4195"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if body is not None:
            given = {"content-type": "application/json"} | given
        content = b"" if body is None else json.dumps(body).encode()

        async def from_client(scope, receive, send):
            await self.page({**scope, "client": (client, 1)}, receive, send)

        said = await ask(from_client, method, path, content, given, query)
        assert "default-src 'none'" in said.headers["content-security-policy"]
        return said

    async def json(self, *args, status=200, **more):
        said = await self(*args, **more)
        assert said.status == status, said
        return json.loads(said.body)


@asynccontextmanager
async def page_of(tmp_path, *, locked, text=CONFIG, secrets=()):
    path = tmp_path / "b.db"
    async with Journal.open(JournalOptions(path)) as journal:
        told = asyncio.get_running_loop().create_future()
        journal.write(Delivery([Message(BAD)], told.set_result))
        await told
        lent = await journal.read()
        letter = DeadLetter(lent.batch[0], "400: no such meter", "{}", 3, 1.0, 2.0, "out")
        lent.settle(BatchFailed({0: Undeliverable(letter)}))
    config = load(text.replace("PATH", str(path)), standard_registry(), env={})
    around = surroundings()
    pipeline = Pipeline(config, around)
    pipelines = {"": pipeline.status}
    gatherer = Gatherer(lambda: pipelines, around.metrics, lambda: None)
    page = LivePage(
        gatherer,
        lambda: pipelines,
        lambda: ["/windows/a/b", "/one/windows/a/b", "/ui"],
        locked=locked,
        secrets=secrets,
    )
    async with page.running():
        await asyncio.sleep(0)
        yield Page(page, gatherer, pipeline.status)


async def test_the_pipeline_is_drawn_from_the_config_with_what_is_inside(tmp_path):
    async with page_of(tmp_path, locked=False) as page:
        text = (await page("/ui")).body.decode()
    drawn = [text.index(f'data-path="{one}"') for one in (
        "root.input", "root.buffer", "root.pipeline.processors.0", "root.output",
        "root.output.switch.cases.0.output",
    )]  # fmt: skip
    assert drawn == sorted(drawn)
    assert "tidy" in text
    assert "door" in text


class Outline(HTMLParser):
    """The components that are drawn, those inside others in lists of their own."""

    def __init__(self):
        super().__init__()
        self.open, self.found = [[]], []

    def handle_starttag(self, tag, attributes):
        path = dict(attributes).get("data-path")
        if tag == "li" and path:
            self.open[-1].append((path, inner := []))
            self.open.append(inner)
        elif tag == "li":
            self.open.append([])

    def handle_endtag(self, tag):
        if tag == "li":
            self.open.pop()


async def test_what_is_inside_a_component_is_drawn_in_it_and_resources_apart(tmp_path):
    nested = CONFIG.replace(
        "processors: [{label: tidy, mapping: root = this}]",
        "processors: [{try: [{for_each: [{noop: {}}, {noop: {}}]}]}, {noop: {}}]",
    )
    resources = "cache_resources: [{label: seen, memory: {}}]\nprocessor_resources: [{label: all, try: [{noop: {}}]}]\n"
    async with page_of(tmp_path, locked=True, text=nested + resources) as page:
        page.page._pipelines = lambda: {"": page.status, "other": page.status}
        text = (await page("/ui")).body.decode()
    outline = Outline()
    outline.feed(text)
    first = outline.open[0][:5]
    inner = "root.pipeline.processors.0.try.0"
    assert first == [
        ("root.input", []),
        ("root.buffer", []),
        ("root.pipeline.processors.0", [
            (inner, [(f"{inner}.for_each.0", []), (f"{inner}.for_each.1", [])]),
        ]),
        ("root.pipeline.processors.1", []),
        ("root.output", [("root.output.switch.cases.0.output", [])]),
    ]  # fmt: skip
    assert outline.open[0][10:] == [
        ("root.processor_resources.0", [("root.processor_resources.0.try.0", [])]),
        ("root.cache_resources.0", []),
    ], "once, whatever the number of pipelines"


async def test_no_secret_of_the_config_is_shown_anywhere(tmp_path):
    async with page_of(tmp_path, locked=True) as page:
        for path in ("/ui", "/ui/state", "/ui/ledger", "/ui/letters", "/ui/letters/1", "/ui/tail"):
            assert b"planted-canary" not in (await page(path)).body


async def test_a_name_from_a_config_cannot_become_markup(tmp_path):
    async with page_of(tmp_path, locked=False) as page:
        name = '"><script>alert(1)</script>'
        page.page._pipelines = lambda: {name: page.status}
        assert b"<script>alert" not in (await page("/ui")).body


async def test_figures_are_rates_since_the_last_look(tmp_path):
    now = [100.0]
    metrics = MetricStore()
    received = metrics.scope(label="", path="root.input").counter("input_received", "")
    async with page_of(tmp_path, locked=False) as page:
        pipelines = {"": page.status}
        gatherer = Gatherer(lambda: pipelines, metrics, lambda: {"leader": True}, lambda: now[0])
        gatherer.sample()
        received.add(50)
        now[0] += 2.0
        state = gatherer.sample()
    stage = state["pipelines"][""]["stages"][0]
    assert (stage["path"], stage["rate_in"], stage["total"]) == ("root.input", 25.0, 50.0)
    assert state["pipelines"][""]["plots"]["received"] == [0.0, 25.0]
    assert state["leadership"] == {"leader": True}
    assert state["ready"] is False  # nothing is connected here


async def test_the_time_to_full_is_that_to_the_bound_that_is_nearest(tmp_path):
    now = [100.0]
    async with page_of(tmp_path, locked=False) as page:
        gatherer = Gatherer(lambda: {"": page.status}, MetricStore(), lambda: None, lambda: now[0])

        def backlog(held, room):
            page.status.buffer = lambda: BufferStatus(
                1, held, 1, 5.0, 0, 10**9, None, room_bytes=room
            )
            now[0] += 1.0
            return gatherer.sample()["pipelines"][""]["backlog"]

        assert backlog(100, 900)["seconds_to_full"] is None
        shown = backlog(200, 800)
        assert (shown["seconds_to_full"], shown["room_bytes"]) == (8.0, 800)
        assert backlog(200, None)["room_bytes"] == 10**9


@pytest.mark.parametrize(
    ("locked", "client", "host", "status"),
    [
        (False, "127.0.0.1", "localhost:4195", 200),
        (False, "::1", "[::1]:4195", 200),
        (False, "192.0.2.7", "localhost:4195", 403),
        (False, "127.0.0.1", "rebound.example:4195", 403),
        (True, "192.0.2.7", "collector.example", 200),
    ],
)
async def test_events_are_shown_behind_a_password_or_on_the_machine_itself(
    tmp_path, locked, client, host, status
):
    async with page_of(tmp_path, locked=locked) as page:
        for path in ("/ui/letters/1", "/ui/tail", "/ui/playground/"):
            assert (await page(path, client=client, host=host)).status == status
        assert (await page("/ui/letters", client=client, host=host)).status == 200
        assert (await page("/ui/state", client=client, host=host)).status == 200


async def test_changes_need_a_password_a_page_of_ours_and_json(tmp_path):
    replay = {"action": "replay"}
    async with page_of(tmp_path, locked=False) as page:
        refused = await page.json("/ui/letters/1", "POST", replay, status=403)
        assert "http.basic_auth" in refused["error"]
    async with page_of(tmp_path / "2", locked=True) as page:
        elsewhere = "https://elsewhere.example"
        assert (await page("/ui/letters/1", "POST", replay, origin=elsewhere)).status == 403
        assert (
            await page("/ui/letters/1", "POST", replay, content_type="text/plain")
        ).status == 415
        assert (await page("/ui/letters/1", "POST", ["replay"])).status == 400
        assert (await page("/ui/letters/1", "POST", {"action": "burn"})).status == 409
        assert (await page("/ui/letters/1", "PUT", replay)).status == 405
        ours = "http://localhost:4195"
        assert await page.json("/ui/letters/1", "POST", replay, origin=ours) == {"done": "replay"}
        assert (await page.json("/ui/letters"))["count"] == 0
        assert (await page("/ui/letters/1", "POST", replay)).status == 409


async def test_letters_are_found_read_edited_and_dropped(tmp_path):
    async with page_of(tmp_path, locked=True) as page:
        found = await page.json("/ui/letters", query="q=METER")
        assert [one["id"] for one in found["letters"]] == ["bad-1"]
        assert (await page.json("/ui/letters", query="q=nothing"))["count"] == 0
        letter = await page.json("/ui/letters/1")
        assert (letter["content"], letter["edited"]) == (BAD.decode(), False)
        await page.json("/ui/letters/1", "POST", {"action": "edit", "content": '{"id":"good"}'})
        letter = await page.json("/ui/letters/1")
        assert (letter["content"], letter["id"], letter["edited"]) == (
            '{"id":"good"}',
            "good",
            True,
        )
        books = await page.json("/ui/ledger")
        assert books["balanced"] is True
        assert books["total"]["received"] == 1
        await page.json("/ui/letters/1", "POST", {"action": "drop"})
        assert (await page("/ui/letters/1")).status == 404
        books = await page.json("/ui/ledger")
        assert (books["balanced"], books["total"]["dropped"]) == (True, 1)


async def test_the_life_of_an_event_is_told_in_order(tmp_path):
    async with page_of(tmp_path, locked=True) as page:
        moments = await page.json("/ui/life", query="id=bad-1")
        assert [one["what"] for one in moments] == ["dead", "received"]  # the letter is from 1970
        assert "no such meter" in moments[0]["note"]
        await page.json("/ui/letters/1", "POST", {"action": "drop"})
        assert "dropped" in {one["what"] for one in await page.json("/ui/life", query="id=bad-1")}
        assert await page.json("/ui/life", query="id=unknown") == []
    async with page_of(tmp_path / "2", locked=False) as page:
        assert (await page("/ui/life", query="id=bad-1", client="192.0.2.7")).status == 403


async def test_the_tail_is_searched_by_any_text(tmp_path):
    async with page_of(tmp_path, locked=True) as page:
        for number in range(3):
            page.status.taken.note([Message(b'{"id":"e%d","subject":"c"}' % number)])
        page.status.taken.note([Message(b"x" * 20_000)])  # too large to be kept for looking
        assert [one["id"] for one in await page.json("/ui/tail")] == ["e2", "e1", "e0"]
        assert [one["id"] for one in await page.json("/ui/tail", query="q=e1")] == ["e1"]


async def test_what_is_not_there_is_said(tmp_path):
    async with page_of(tmp_path, locked=True) as page:
        assert await page.json("/ui/windows") == ["/windows/a/b", "/one/windows/a/b"]
        for path in ("/ui/nothing", "/ui/letters/x", "/ui/letters/7"):
            assert (await page(path)).status == 404
        assert (await page("/ui/state", query="")).status == 200
        assert (await page("/ui/tail", query="pipeline=other")).status == 404


async def test_mappings_tried_here_reach_neither_environment_nor_files(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", "canary")
    (tmp_path / "file.txt").write_text("canary")
    async with page_of(tmp_path, locked=True) as page:
        for mapping in (
            'root = env("PLANTED")',
            f'root = file("{tmp_path}/file.txt").string()',
            f'import "{tmp_path}/file.txt"',
        ):
            body = {"document": "{}", "mapping": mapping}
            said = await page("/ui/playground/attempt", "POST", body)
            assert said.status == 200
            assert b"canary" not in said.body
        body = {"document": '{"a":1}', "mapping": "root = this.a + 1"}
        made = await page.json("/ui/playground/attempt", "POST", body)
        assert made["messages"][0]["result"] == "2"


async def test_the_list_of_endpoints_says_what_the_page_is():
    service = Service(MetricStore())
    config = load("http: {address: '127.0.0.1:0'}\ninput: {stdin: {}}", standard_registry(), env={})
    async with AsyncExitStack() as stack:
        await serve(stack, service, config, Log(LogOptions(), len))
        listed = json.loads(service.endpoints()[2])
    assert "live page" in listed["/ui"].lower()
    assert "/ui" in listed["/ui/"]


SECRETIVE = CONFIG.replace("mapping: root = this", 'mapping: root.key = "planted-canary"')


async def test_the_playground_offers_the_mappings_of_the_config_and_events_without_secrets(
    tmp_path,
):
    secrets = set()
    async with page_of(tmp_path, locked=True, text=SECRETIVE, secrets=secrets) as page:
        secrets.add("planted-canary")  # as when a changed config brings new ones
        metadata = {"path": "/planted-canary", "X-Api-Key": "theirs", "Cookie": "theirs", "n": 3}
        event = b'{"id":"e1","type":"t","subject":"planted-canary","data":{"planted-canary":1}}'
        page.status.taken.note([Message(event, metadata)])
        mappings = await page.json("/ui/playground/mappings")
        events = await page.json("/ui/playground/events")
        tail = await page.json("/ui/tail")
        assert await page.json("/ui/tail", query="q=planted-canary") == []
    assert [(one["name"], one["hidden"]) for one in mappings] == [("door", False), ("tidy", True)]
    (shown,) = events
    assert (shown["id"], shown["type"]) == ("e1", "t")
    hidden = "!!!SECRET_SCRUBBED!!!"
    assert shown["metadata"] == {
        "path": f"/{hidden}", "X-Api-Key": hidden, "Cookie": hidden, "n": "3",
    }  # fmt: skip
    assert [one["subject"] for one in tail] == [hidden]
    assert "canary" not in json.dumps([mappings, events, tail])


async def test_what_streams_share_is_offered_once(tmp_path):
    shared = CONFIG + "processor_resources: [{label: shared, mapping: root = 1}]\n"
    async with page_of(tmp_path, locked=True, text=shared) as page:
        page.page._pipelines = lambda: {"one": page.status, "two": page.status}
        found = await page.json("/ui/playground/mappings")
    assert [(one["stream"], one["name"]) for one in found] == [
        ("one", "door"), ("one", "tidy"), ("one", "shared"),
    ]  # fmt: skip


async def test_the_page_makes_tests_and_writes_none(tmp_path):
    asked = {"document": '{"n":1}', "mapping": "root = this"}
    body = {"asked": asked, "wanted": {"name": "it", "processors": "tidy"}}
    async with page_of(tmp_path, locked=True) as page:
        made = await page.json("/ui/playground/case", "POST", body)
        assert "target_processors: tidy" in made["text"]
        assert (await page("/ui/playground/write-case", "POST", body)).status == 404
    async with page_of(tmp_path / "2", locked=False) as page:
        for path in ("mappings", "events", "start"):
            said = await page(f"/ui/playground/{path}", client="192.0.2.7")
            assert said.status == 403
        assert (await page("/ui/playground/case", "POST", body, client="192.0.2.7")).status == 403
