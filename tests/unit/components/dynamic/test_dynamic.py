"""Inputs and outputs that come and go: the components and their REST interface."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY, SCRIPTS, WRITTEN, messages
from openmeter_collector.api import ConfigError, Retryable
from openmeter_collector.config import Config, Stream, load, read
from openmeter_collector.spec.trust import of_the_api, of_the_operator
from openmeter_collector.testing.clock import virtual_time
from openmeter_collector.testing.env import FakeEnv, ask


class Api:
    """Requests to what is mounted."""

    def __init__(self, env, base):
        self.env, self.base = env, base

    async def __call__(self, method, path, body=""):
        app = self.env.apps[self.base + "/"]
        said = await ask(app, method, self.base + path, body.encode())
        return said.status, said.body.decode()


class Intake:
    def __init__(self):
        self.contents = []

    async def put(self, delivery):
        self.contents += [message.content.decode() for message in delivery.batch]
        delivery.settle(None)

    async def until(self, count):
        while len(self.contents) < count:
            await asyncio.sleep(0.1)


@asynccontextmanager
async def inputs(fields="{}", base="/inputs"):
    node = load(f"input:\n  dynamic: {fields}\n", REGISTRY, env={}).input
    env = FakeEnv(node)
    intake = Intake()
    async with node.config.open(env) as opened:
        running = asyncio.ensure_future(opened.run(intake))
        await asyncio.sleep(0)
        try:
            yield Api(env, base), intake, running
        finally:
            running.cancel()
            await asyncio.wait({running})


GENERATE = "generate: {mapping: 'root = \"%s\"', interval: %s}"


@virtual_time
async def test_inputs_come_change_and_go():
    async with inputs() as (api, intake, running):
        assert await api("GET", "") == (200, "{}")
        assert await api("POST", "/one", GENERATE % ("a", "1s")) == (200, "")
        await intake.until(2)
        assert set(intake.contents) == {"a"}
        assert await api("POST", "/two", json.dumps({"generate": {"mapping": 'root = "b"'}})) == (
            200,
            "",
        )
        await asyncio.sleep(10)
        assert set(intake.contents) == {"a", "b"}
        assert (await api("POST", "/one", GENERATE % ("c", "1s")))[0] == 200
        intake.contents.clear()
        await intake.until(4)
        assert set(intake.contents) == {"b", "c"}
        assert await api("DELETE", "/two") == (200, "")
        intake.contents.clear()
        await intake.until(2)
        assert set(intake.contents) == {"c"}
        assert (await api("GET", "/two"))[0] == 404
        assert (await api("DELETE", "/two"))[0] == 404
        assert not running.done()


@virtual_time
async def test_what_is_there_is_shown_with_its_uptime():
    fields = f"{{inputs: {{start: {{{GENERATE % ('a', '1s')}}}}}, prefix: /x}}"
    async with inputs(fields, "/x/inputs") as (api, _, _):
        await asyncio.sleep(90)
        assert await api("GET", "/start/uptime") == (200, "1m30s")
        shown = json.loads((await api("GET", ""))[1])
        assert shown["start"]["uptime"] == "1m30s"
        assert shown["start"]["config"]["generate"]["interval"] == "1s"
        assert "generate:" in shown["start"]["config_raw"]


async def test_secrets_of_what_came_are_not_shown():
    async with inputs() as (api, _, _):
        body = "http_client: {url: 'http://127.0.0.1:1', basic_auth: {username: u, password: hush}}"
        await api("POST", "/web", body)
        status, text = await api("GET", "/web")
        assert status == 200
        assert "username: u" in text
        assert "hush" not in text
        assert "hush" not in (await api("GET", ""))[1]


@virtual_time
async def test_the_same_config_again_changes_nothing():
    async with inputs() as (api, intake, _):
        await api("POST", "/one", GENERATE % ("a", "1h"))
        await asyncio.sleep(1800)
        await api("POST", "/one", GENERATE % ("a", "1h"))
        await asyncio.sleep(10)
        assert intake.contents == ["a"]
        assert await api("GET", "/one/uptime") == (200, "30m10s")


@virtual_time
async def test_an_input_that_has_ended_says_so():
    async with inputs() as (api, intake, _):
        await api("POST", "/one", "generate: {mapping: 'root = \"a\"', count: 1}")
        await intake.until(1)
        await asyncio.sleep(1)
        assert await api("GET", "/one/uptime") == (200, "stopped")


@virtual_time
async def test_faults_are_told_and_change_nothing():
    async with inputs() as (api, intake, _):
        await api("POST", "/one", GENERATE % ("a", "1s"))
        status, text = await api("POST", "/one", "generate: {mapping: 'root = ', interval: x}")
        assert status == 400
        assert "input:1:" in text
        assert "not a duration" in text
        for body in ("generate: [", "", "nothing: {}", "- a"):
            assert (await api("POST", "/one", body))[0] == 400
        assert (await api("PUT", "/one", ""))[0] == 405
        assert (await api("GET", "/one/more"))[0] == 404
        assert (await api("GET", "/a%20b"))[0] == 404
        assert (await api("POST", "/one", "x" * (2 << 20)))[0] == 413
        await intake.until(2)


@virtual_time
async def test_what_comes_over_the_network_may_not_touch_files_and_cannot_stop_the_collector():
    async with inputs() as (api, _, running):
        status, text = await api("POST", "/one", "file: {paths: [/etc/passwd]}")
        assert status == 400
        assert "files" in text
        await api(
            "POST", "/two", "http_client: {url: 'http://x', tls: {enabled: true, root_cas: no}}"
        )
        await asyncio.sleep(1)
        shown = json.loads((await api("GET", ""))[1])
        assert shown["two"]["uptime"] == "stopped"
        assert "tls" in shown["two"]["error"]
        assert not running.done()


@pytest.mark.parametrize(
    "holder", [of_the_operator("programs", network=["files"]), of_the_api("files")]
)
def test_what_is_allowed_over_the_network_is_allowed_to_what_comes_later(holder):
    """`--allow-api`, and not what files on this machine may do."""
    text = "input:\n  dynamic: {}\n"
    node = read(text, REGISTRY, Stream, env={}, trust=holder).or_raise().input
    assert node.decodes("input", "file: {paths: [x]}", "root.input").name == "file"
    with pytest.raises(ConfigError, match="starts programs"):
        node.decodes("processor", "command: {name: x}", "root.processor")


async def test_an_input_of_the_config_that_cannot_run_stops_the_start(tmp_path):
    async with inputs(f"{{inputs: {{a: {{file: {{paths: ['{tmp_path}/none']}}}}}}}}") as (
        _,
        _,
        run,
    ):
        with pytest.raises(BaseExceptionGroup) as caught:
            await run
        assert caught.group_contains(ConfigError, match="no such file")


@asynccontextmanager
async def outputs(fields="{}"):
    SCRIPTS.clear()
    WRITTEN.clear()
    # The scripted output is not one of the collector's own.
    trust = of_the_operator(network=["plugins"])
    node = (
        read(f"output:\n  dynamic: {fields}\n", REGISTRY, Config, trust=trust, env={})
        .or_raise()
        .output
    )
    env = FakeEnv(node)
    async with node.config.open(env) as opened:
        yield Api(env, "/outputs"), opened


@virtual_time
async def test_outputs_all_get_what_is_written_while_they_are_there():
    async with outputs("{outputs: {a: {scripted: {name: a}}}}") as (api, output):
        await output.write(messages("1"))
        assert await api("POST", "/b", "scripted: {name: b}") == (200, "")
        await output.write(messages("2"))
        await api("DELETE", "/a")
        await output.write(messages("3"))
        assert WRITTEN == {"a": [["1"], ["2"]], "b": [["2"], ["3"]]}
        assert list(json.loads((await api("GET", ""))[1])) == ["b"]


@virtual_time
async def test_without_an_output_messages_wait():
    async with outputs() as (_, output):
        with pytest.raises(Retryable, match="there is no output at the moment"):
            await output.write(messages("1"))


@virtual_time
async def test_an_output_is_repeated_until_it_has_the_message_or_is_removed():
    async def away(contents):
        raise Retryable("away")

    async with outputs("{outputs: {a: {scripted: {name: a}}, b: {scripted: {name: b}}}}") as (
        api,
        output,
    ):
        SCRIPTS["a"] = away
        writing = asyncio.ensure_future(output.write(messages("1")))
        await asyncio.sleep(600)
        assert not writing.done()
        await api("DELETE", "/a")
        await writing
        assert WRITTEN["b"] == [["1"]]


@virtual_time
async def test_a_cancelled_write_ends():
    async def away(contents):
        raise Retryable("away")

    async with outputs("{outputs: {a: {scripted: {name: a}}}}") as (_, output):
        SCRIPTS["a"] = away
        writing = asyncio.ensure_future(output.write(messages("1")))
        await asyncio.sleep(60)
        writing.cancel()
        await asyncio.wait({writing})
        assert writing.cancelled()


@virtual_time
async def test_an_output_that_cannot_be_opened_is_told():
    async with outputs() as (api, _):
        body = "http_client: {url: 'http://x', tls: {enabled: true, root_cas: no}}"
        status, text = await api("POST", "/a", body)
        assert (status, "tls" in text) == (400, True)
        assert await api("GET", "") == (200, "{}")
