"""The run_ai input: nobody left out, nobody twice, no failure told as 0."""

import asyncio
from collections import Counter
from email.utils import formatdate

import pytest

from kit.run_ai import FakeRunAi
from kit.windows import START, Stored, WindowEnv, running
from openmeter_collector.api import HttpResponse, Retryable
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.testing.clock import virtual_time

REGISTRY = standard_registry()
PUBLISHED = """\
input:
  run_ai:
    url: 'http://runai.test'
    app_id: 'me'
    app_secret: 's3cret'
    schedule: '*/30 * * * * *'
    metrics_offset: '30s'
    resource_type: 'workload'
    metrics: [CPU_LIMIT_CORES, CPU_MEMORY_LIMIT_BYTES, CPU_MEMORY_REQUEST_BYTES, CPU_MEMORY_USAGE_BYTES,
              CPU_REQUEST_CORES, CPU_USAGE_CORES, GPU_ALLOCATION, GPU_MEMORY_REQUEST_BYTES,
              GPU_MEMORY_USAGE_BYTES, GPU_UTILIZATION, POD_COUNT, RUNNING_POD_COUNT]
    http: {timeout: 30s, retry_count: 1, retry_wait_time: 100ms, retry_max_wait_time: 1s}
"""
# The start is at :20, so windows end at 10, 40, 70, ... seconds after it.


class Run:
    """Lives of the input against one server."""

    def __init__(self, text=PUBLISHED):
        loop = asyncio.get_running_loop()
        self.server = FakeRunAi(lambda: START + loop.time())
        self.stored = Stored()
        self.node = load(text, REGISTRY, env={}).input

    async def live(self, seconds):
        env = WindowEnv(self.stored, self.node)
        env.http_script.script = self.server
        async with self.node.config.open(env) as opened, running(opened, self.stored):
            await asyncio.sleep(seconds)
        return env

    def seen(self):
        return Counter(
            (one.structured()["id"], one.metadata["window_end"]) for one in self.stored.messages
        )


@virtual_time
async def test_the_published_config_gives_what_is_published():
    run = Run()
    run.server.add("w1", START - 1000, extra="kept")
    env = await run.live(15)
    (message,) = run.stored.messages
    assert message.metadata == {
        "scrape_time": "2023-11-14T22:13:30Z",
        "scrape_interval": "30s",
        "metrics_offset": "30s",
        "metrics_time": "2023-11-14T22:13:00Z",
        "resource_type": "workload",
        "window_start": "2023-11-14T22:12:30Z",
        "window_end": "2023-11-14T22:13:00Z",
    }
    told = message.structured()
    assert told["resourceType"] == "workload"
    assert told["allocatedResources"] == {"gpu": 2}
    assert told["metrics"]["timestamp"] == "2023-11-14T22:13:00Z"
    assert len(told["metrics"]["values"]) == 12
    assert b'"GPU_ALLOCATION":2.50' in message.content
    chunks = [one.url for one in env.http_script.requests if "/metrics?" in one.url]
    assert [url.count(",") for url in chunks] == [8, 2], "nine types at a time"
    assert "metricType=CPU_LIMIT_CORES,CPU_MEMORY" in chunks[0]
    assert env.metrics.store.total("run_ai_resource_count") == 1


@virtual_time
async def test_every_page_is_read_by_what_was_read_of_it():
    """Rows without running pods do not make pages overlap, nor a page of only those end or repeat it."""
    run = Run(PUBLISHED + "    page_size: 100\n")
    for at in range(450):
        idle = at < 120 or at % 3 == 0
        run.server.add(f"w{at:03d}", START - 1000, pods=0 if idle else 2)
    env = await run.live(25)
    wanted = {f"w{at:03d}" for at in range(120, 450) if at % 3}
    assert {name for name, _ in run.seen()} == wanted
    assert set(run.seen().values()) == {1}
    assert run.server.asked["/api/v1/workloads"] == 5
    assert env.http_script.most_under_way <= 8, "bounded"


@virtual_time
async def test_a_failed_chunk_fails_its_resource_and_no_other_and_is_made_up_for():
    run = Run()
    for name in ("a", "b", "c"):
        run.server.add(name, START - 1000)
    left = [8]

    def fail(path, query):
        second = "GPU_UTILIZATION" in query.get("metricType", "")
        if path.startswith("/api/v1/workloads/b/") and second and left[0]:
            left[0] -= 1
            return HttpResponse(500, {}, b"")
        return None

    run.server.fail = fail
    await run.live(12)
    assert {name for name, _ in run.seen()} == {"a", "c"}, "the others are not held up"
    assert run.stored.ledger().open[0].rest == ("b",)
    await run.live(40)
    assert run.seen()["b", "2023-11-14T22:13:00Z"] == 1
    assert set(run.seen().values()) == {1}, "and not repeated"
    values = [m.structured()["metrics"]["values"] for m in run.stored.messages]
    assert all(len(one) == 12 for one in values)
    assert all(one["GPU_UTILIZATION"] == 2.5 for one in values), "never a silent 0"


@virtual_time
async def test_what_the_api_says_is_nothing_is_0():
    run = Run()
    run.server.add("idle", START + 10_000, createdAt="2023-11-14T22:00:00Z")
    await run.live(15)
    assert run.stored.messages[0].structured()["metrics"]["values"]["GPU_ALLOCATION"] == 0


@virtual_time
async def test_missed_windows_are_fetched_with_what_ran_then():
    run = Run()
    run.server.add("stays", START - 1000)
    await run.live(15)
    run.server.add("short", START + 60, START + 140)
    await asyncio.sleep(200)
    run.server.workloads[1] |= {"phase": "Completed", "runningPods": 0}
    run.server.add("later", START + 100_000, phase="Pending", pods=0)
    await run.live(60)
    seen = run.seen()
    ends = {end for name, end in seen if name == "stays"}
    assert len(ends) == 9, "each half minute from 22:13:00 on"
    assert {end for name, end in seen if name == "short"} == {
        "2023-11-14T22:14:30Z",
        "2023-11-14T22:15:00Z",
        "2023-11-14T22:15:30Z",
    }
    assert not any(name == "later" for name, _ in seen)
    assert set(seen.values()) == {1}


@virtual_time
async def test_a_token_is_fetched_once_for_all_and_again_when_it_is_refused():
    run = Run()
    for at in range(20):
        run.server.add(f"w{at}", START - 1000)
    await run.live(15)
    assert run.server.asked["/api/v1/token"] == 1
    run.server.valid.clear()  # somebody revoked it
    env = await run.live(30)
    assert run.server.asked["/api/v1/token"] == 2
    run.server.valid.clear()
    assert set(run.seen().values()) == {1}
    assert env.metrics.store.total("windows_failed") == 0


@virtual_time
async def test_a_token_that_was_revoked_on_the_way_is_replaced_without_losing_a_request():
    run = Run()
    for at in range(20):
        run.server.add(f"w{at}", START - 1000)
    count = [0]

    def fail(path, query):
        count[0] += 1
        if count[0] == 12:
            run.server.valid.clear()

    run.server.fail = fail
    env = await run.live(15)
    assert len(run.stored.messages) == 20
    assert run.server.asked["/api/v1/token"] == 2
    assert env.metrics.store.total("windows_failed") == 0


@virtual_time
async def test_a_token_is_renewed_before_it_ends():
    run = Run()
    run.server.lasts = 25
    run.server.add("w", START - 1000)
    env = await run.live(100)
    assert run.server.asked["/api/v1/token"] == 3, "one for each window"
    assert b'status_code="401"' not in env.metrics.store.exposition()


@virtual_time
async def test_a_server_that_asks_for_time_is_left_alone():
    run = Run()
    for at in range(10):
        run.server.add(f"w{at}", START - 1000)
    loop = asyncio.get_running_loop()
    times, limited = [], [True]

    def fail(path, query):
        times.append(loop.time())
        if limited[0] and len(times) > 4:
            limited[0] = False
            return HttpResponse(429, {"retry-after": "7"}, b"")
        return None

    run.server.fail = fail
    await run.live(29)
    after = [at for at in times if at > times[4] + 0.05]
    assert min(after) >= times[4] + 6.9
    assert len(run.stored.messages) == 10


@virtual_time
async def test_a_server_that_has_not_seen_the_end_of_the_window_is_not_believed():
    run = Run(PUBLISHED.replace("'30s'", "'0s'"))
    run.server.add("w", START - 1000)
    loop = asyncio.get_running_loop()
    answer = run.server._metrics

    def behind(path, query):
        date = formatdate(START + loop.time() - 60, usegmt=True)
        return HttpResponse(200, {"date": date}, answer(path, query).body)

    run.server._metrics = behind
    await run.live(60)
    assert run.stored.messages == []
    await run.live(90)
    assert run.seen()
    assert set(run.seen().values()) == {1}


@virtual_time
async def test_pods_are_read_with_their_own_measurements():
    text = PUBLISHED.replace("resource_type: 'workload'", "resource_type: 'pod'")
    start = text.index("    metrics: [")
    text = text[:start] + text[text.index("    http:") :]
    run = Run(text)
    run.server.add_pod("p1", "w1", START - 100)
    run.server.add_pod("p2", "w1", START - 100, completedAt="2023-11-14T22:13:00Z")
    env = await run.live(15)
    (message,) = run.stored.messages
    assert message.metadata["resource_type"] == "pod"
    assert message.structured()["resourceType"] == "pod"
    assert len(message.structured()["metrics"]["values"]) == 19
    urls = [one.url for one in env.http_script.requests]
    assert any("/api/v1/workloads/w1/pods/p1/metrics" in url for url in urls)
    assert any("verbosity=full" in url and "completed=false" in url for url in urls)


@virtual_time
async def test_what_went_away_in_between_is_counted():
    run = Run()
    run.server.add("w", START - 1000)
    del run.server.runs["w"]
    env = await run.live(15)
    assert run.stored.messages == []
    assert env.metrics.store.total("run_ai_resources_gone") == 1
    assert env.metrics.store.total("windows_done") == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (HttpResponse(200, {}, b"<html>"), "none of Run:ai"),
        (HttpResponse(200, {}, b"{}"), "has no workloads"),
        (Retryable("reset"), "reset"),
    ],
)
def test_an_answer_that_is_none_keeps_the_window_open(answer, text):
    @virtual_time
    async def check():
        run = Run()
        run.server.fail = lambda path, query: answer
        env = await run.live(15)
        assert run.stored.ledger().open
        assert any(text in line for line in env.lines)

    check()


@virtual_time
async def test_a_wrong_secret_is_named_and_not_shown():
    run = Run()
    run.server.secret = "other"
    env = await run.live(15)
    assert any("check app_id and app_secret" in line for line in env.lines)
    assert "s3cret" not in "".join(env.lines)
