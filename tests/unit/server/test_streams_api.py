"""The API that manages streams: what each call does, and what it refuses."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from openmeter_collector.cli.options import Given
from openmeter_collector.cli.stream_files import Library
from openmeter_collector.config import Config, load
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.streams import Streams
from openmeter_collector.server.service import Service
from openmeter_collector.server.streams_api import StreamsApi, patched
from openmeter_collector.spec.trust import EVERYTHING, of_the_api
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log, LogOptions
from openmeter_collector.testing.env import ask

TICKS = """
input: {generate: {interval: 5ms, mapping: 'root = "NAME"'}}
output: {file: {path: NAME.txt}}
"""


@pytest.fixture
async def api(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with serving({"one": TICKS.replace("NAME", "one")}) as call:
        yield call


@asynccontextmanager
async def serving(texts, shared="http: {enabled: false}", allowed=("files",)):
    how = Given(
        log_level=None,
        overrides=(),
        resources=(),
        templates=(),
        env={"FROM_ENV": "env", "A_TOKEN": "from-the-environment"},
        chilled=False,
        trust=EVERYTHING,
        api_trust=of_the_api(*allowed),
        watch=False,
    )
    config = load(shared, how.registry(), env={})
    assert isinstance(config, Config)
    library = Library(how, config, set())
    metrics = MetricStore()
    service = Service(metrics, streams=True)
    lines = []
    around = Surroundings(
        Log(LogOptions(), lines.append), metrics, listen=None, mount=service.mount
    )
    running = Streams(config, around, stay=True)
    service.pipelines = running.status
    streams = {name: library.reading(text).or_raise() for name, text in texts.items()}
    sources = {name: library.values(text) for name, text in texts.items()}
    service.api = StreamsApi(running, library.definitions(), sources, metrics, around.monotonic)
    stop = asyncio.Event()
    task = asyncio.create_task(running.run(streams, stop))
    while not all(one.input.connected for one in running.status.values()) or not running.status:
        await asyncio.sleep(0.005)

    async def call(method, path, body="", query=""):
        answer = await ask(service, method, path, body.encode(), query=query)
        try:
            return answer.status, json.loads(answer.body)
        except ValueError:
            return answer.status, answer.body.decode()

    try:
        yield call
    finally:
        stop.set()
        await task


async def until_written(path):
    while not path.exists() or not path.read_text():
        await asyncio.sleep(0.005)


async def test_streams_are_listed_created_replaced_and_deleted(api, tmp_path):
    status, listed = await api("GET", "/streams")
    assert status == 200
    assert list(listed) == ["one"]
    assert listed["one"]["active"]
    assert listed["one"]["uptime"] >= 0
    assert listed["one"]["uptime_str"].endswith("s")

    assert await api("POST", "/streams/two", TICKS.replace("NAME", "two")) == (200, "")
    await until_written(tmp_path / "two.txt")
    assert await api("POST", "/streams/two", TICKS) == (400, "Stream already exists\n")

    assert await api("PUT", "/streams/two", TICKS.replace("NAME", "three")) == (200, "")
    await until_written(tmp_path / "three.txt")

    assert await api("DELETE", "/streams/two", query="timeout=5s") == (200, "")
    assert list((await api("GET", "/streams"))[1]) == ["one"]
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert await api(method, "/streams/two", TICKS) == (404, "Stream not found\n"), method


async def test_a_stream_is_shown_whole_and_patched(api, tmp_path):
    status, one = await api("GET", "/streams/one")
    assert status == 200
    assert one["config"]["input"]["generate"]["count"] == 0  # a default
    status, _ = await api("PATCH", "/streams/one", '{"output": {"file": {"path": "p.txt"}}}')
    assert status == 200
    await until_written(tmp_path / "p.txt")
    assert (tmp_path / "p.txt").read_text().startswith("one\n")


async def test_secrets_of_a_stream_are_not_shown(api):
    """Neither those of secret fields nor those that variables brought into others."""
    text = (
        "input: {stdin: {}}\noutput: {openmeter: {url: 'http://127.0.0.1:1', token: hush-hush}}\n"
    )
    text = text.replace("stdin: {}", "generate: {mapping: root = deleted()}")
    assert (await api("POST", "/streams/two", text))[0] == 200
    status, shown = await api("GET", "/streams/two")
    assert status == 200
    assert "hush" not in json.dumps(shown)
    text = text.replace("hush-hush", "'${A_TOKEN}'").replace(
        "/127.0.0.1:1", "/a-${A_TOKEN}.example"
    )
    assert (await api("PUT", "/streams/two", text))[0] == 200
    status, shown = await api("GET", "/streams/two")
    assert "from-the-environment" not in json.dumps(shown)


async def test_faults_are_answered_with_their_places_unless_chilled(api):
    text = TICKS.replace("NAME", "two") + "nonsense: 1\n"
    assert await api("POST", "/streams/two", text) == (
        400, {"lint_errors": ["(4,1) field nonsense not recognised"]},
    )  # fmt: skip
    assert "two" not in (await api("GET", "/streams"))[1]
    assert (await api("POST", "/streams/two", text, query="chilled=true"))[0] == 200
    status, told = await api("POST", "/streams/three", "input: {nothing: {}}")
    assert (status, told["lint_errors"]) == (
        400, ["(1,1) unable to infer component type: nothing"],
    )  # fmt: skip
    assert (await api("POST", "/streams/three", "- a"))[0] == 400
    assert (await api("POST", "/streams/a b", TICKS))[0] == 400
    assert (await api("POST", "/streams/three", "input: {stdin: {}}\nbuffer: ${NOT_SET}"))[0] == 400


async def test_a_stream_that_cannot_be_opened_is_not_added_and_replaces_nothing(api, tmp_path):
    bad = "input: {file: {paths: [./nowhere]}}\noutput: {drop: {}}\n"
    status, told = await api("POST", "/streams/two", bad)
    assert status == 400
    assert "./nowhere: no such file" in told
    assert (await api("PUT", "/streams/one", bad))[0] == 400
    (tmp_path / "one.txt").unlink()
    assert (await api("GET", "/streams"))[1]["one"]["active"]
    await until_written(tmp_path / "one.txt")


async def test_calls_at_the_same_time_do_not_get_into_each_others_way(api):
    await api("POST", "/streams/two", TICKS.replace("NAME", "two"))
    puts = [api("PUT", "/streams/two", TICKS.replace("NAME", f"n{n}")) for n in range(4)]
    answers = await asyncio.gather(*puts, api("DELETE", "/streams/one"), api("GET", "/streams/two"))
    assert [status for status, _ in answers] == [200] * 6
    posts = [api("POST", "/streams/new", TICKS.replace("NAME", "new")) for _ in range(3)]
    answers = await asyncio.gather(*posts)
    assert sorted(status for status, _ in answers) == [200, 400, 400]
    answers = await asyncio.gather(*(api("DELETE", "/streams/new") for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 400]


async def test_a_whole_set_takes_the_place_of_what_runs(api, tmp_path):
    wanted = {"two": TICKS.replace("NAME", "two"), "three": TICKS.replace("NAME", "${FROM_ENV}")}
    body = "\n".join(
        f"{name}:\n" + "".join(f"  {line}\n" for line in text.strip().splitlines())
        for name, text in wanted.items()
    )
    assert await api("POST", "/streams", body) == (200, "")
    assert sorted((await api("GET", "/streams"))[1]) == ["three", "two"]
    await until_written(tmp_path / "env.txt")
    status, told = await api("POST", "/streams", '{"four": {"output": {"nothing": {}}}}')
    assert status == 400
    assert told["lint_errors"][0].startswith("stream 'four': ")
    assert sorted((await api("GET", "/streams"))[1]) == ["three", "two"]


async def test_figures_are_those_of_one_stream_and_go_with_it(api, tmp_path):
    await until_written(tmp_path / "one.txt")
    sent = 0
    while not sent:
        await asyncio.sleep(0.005)
        status, figures = await api("GET", "/streams/one/stats")
        assert status == 200
        sent = figures['output_sent{label="",path="root.output"}']
        await asyncio.sleep(0.005)  # an answer in memory gives nobody else a turn
    assert figures["uptime_ns"] > 0
    assert (await api("GET", "/streams/two/stats"))[0] == 404
    await api("DELETE", "/streams/one")
    assert 'stream="one"' not in (await api("GET", "/metrics"))[1]


async def test_resources_are_added_and_replaced(api, tmp_path):
    text = "input: {generate: {interval: 5ms, mapping: root = 1}}\noutput: {resource: out}\n"
    assert (await api("POST", "/streams/two", text))[0] == 400
    put = await api("POST", "/resources/output/out", "file: {path: r1.txt}")
    assert put == (200, "")
    assert (await api("POST", "/streams/two", text))[0] == 200
    await until_written(tmp_path / "r1.txt")
    assert (await api("POST", "/resources/output/out", "nothing: {}"))[0] == 400
    assert (await api("POST", "/resources/planet/out", "{}"))[0] == 404
    assert (await api("GET", "/resources/cache/c"))[0] == 405


async def test_ready_is_about_streams_that_run(api):
    assert await api("GET", "/ready") == (200, "OK")
    away = "input: {generate: {count: 1, mapping: root = 1}}\noutput: {drop: {}}\n"
    assert (await api("POST", "/streams/ends", away))[0] == 200
    while (await api("GET", "/streams"))[1]["ends"]["active"]:
        await asyncio.sleep(0.01)
    while await api("GET", "/ready") != (200, "OK"):
        await asyncio.sleep(0.01)
    assert "/streams/{id}/stats" in (await api("GET", "/endpoints"))[1]


async def test_without_the_api_its_paths_are_not_there():
    service = Service(MetricStore(), streams=True)
    assert (await ask(service, "GET", "/streams")).status == 404


def test_patches_merge():
    assert patched({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None, "e": 3}, "d": [2]}) == {
        "a": {"c": 2, "e": 3}, "d": [2],
    }  # fmt: skip


async def test_what_comes_over_the_network_may_not_write_files_unless_that_is_allowed(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    mine = {"one": "input: {generate: {mapping: root = 1}}\noutput: {drop: {}}\n"}
    text = TICKS.replace("NAME", "two")
    async with serving(mine, allowed=()) as call:
        status, said = await call("POST", "/streams/two", text)
        assert status == 400
        assert "file is not allowed here: it reads or writes files" in str(said)
    assert not (tmp_path / "two.txt").exists()
    async with serving(mine) as call:
        status, _ = await call("POST", "/streams/two", text)
        assert status == 200


async def test_no_call_of_the_api_gets_around_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = {"one": "input: {generate: {mapping: root = 1}}\noutput: {drop: {}}\n"}
    async with serving(mine, allowed=()) as call:
        for method, path in (("POST", "/streams/two"), ("PUT", "/streams/one"),
                             ("PATCH", "/streams/one"), ("POST", "/streams")):  # fmt: skip
            body = (
                TICKS.replace("NAME", "two")
                if path != "/streams"
                else ('{"one": {"output": {"file": {"path": "two.txt"}}}}')
            )
            status, told = await call(method, path, body)
            assert status == 400, (method, path, told)
            assert "lint_errors" in told
        put = await call("POST", "/resources/output/out", "file: {path: two.txt}")
        assert put[0] == 400
    assert not (tmp_path / "two.txt").exists()
