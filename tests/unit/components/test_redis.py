"""The redis cache and rate limit, against real servers."""

import asyncio
import importlib

import pytest
import trustme

from kit.pipes import REGISTRY
from kit.redis_servers import redis_server
from openmeter_collector.api import ConfigError, Retryable
from openmeter_collector.config import InvalidConfig, load
from openmeter_collector.testing.env import FakeEnv
from openmeter_collector.testing.running import free_port

QUICK = "retries: {initial_interval: 1ms, max_interval: 2ms, max_elapsed_time: 20ms}"
PATIENT = "retries: {initial_interval: 1ms, max_interval: 2ms, max_elapsed_time: 30s}"


@pytest.fixture(scope="module")
def server():
    with redis_server() as running:
        yield running


def opened(kind, fields):
    text = f"{kind}_resources:\n  - label: r\n    redis:\n"
    text += "".join(f"      {line}\n" for line in fields.splitlines())
    config = load(text, REGISTRY, env={})
    node = getattr(config, f"{kind}_resources")[0]
    return node.config.open(FakeEnv(node))


async def test_values_are_kept_under_the_prefix(server):
    async with opened("cache", f"url: {server.url}\nprefix: 'a:'") as cache:
        assert await cache.get("k") is None
        await cache.set("k", b"\x00v")
        assert await cache.get("k") == b"\x00v"
        assert server.client.get("a:k") == b"\x00v"
        assert server.client.ttl("a:k") == -1
        await cache.delete("k")
        await cache.delete("k")
        assert await cache.get("k") is None


async def test_times_to_live_are_the_server_s(server):
    async with opened("cache", f"url: {server.url}\nprefix: 't:'\ndefault_ttl: 1h") as cache:
        await cache.set("long", b"v")
        await cache.set("short", b"v", 0.001)
        await cache.add("added", b"v")
        assert 3_500_000 < server.client.pttl("t:long") <= 3_600_000
        assert server.client.pttl("t:added") > 3_500_000
        while await cache.get("short") is not None:
            pass


async def test_a_key_can_be_added_once(server):
    async with opened("cache", f"url: {server.url}\nprefix: 'b:'") as cache:
        assert await cache.add("k", b"1")
        assert not await cache.add("k", b"1")
        assert await cache.get("k") == b"1"


async def test_databases_and_names_of_clients_are_told(server):
    async with opened("cache", f"url: {server.url}/3\nclient_name: me") as cache:
        await cache.set("k", b"3")
        assert "me" in [one["name"] for one in server.client.client_list()]
        assert server.client.get("k") is None


async def test_a_server_that_is_away_is_tried_again_and_then_said():
    with redis_server() as server:
        async with opened("cache", f"url: {server.url}\n{QUICK}") as cache:
            await cache.set("k", b"v")
            server.stop()
            with pytest.raises(Retryable, match=r"root\.cache_resources\.0\.redis: redis: "):
                await cache.get("k")
        async with opened("cache", f"url: {server.url}") as patient:
            asking = asyncio.ensure_future(patient.get("k"))
            await asyncio.sleep(0)
            with redis_server(port=server.port):
                assert await asking is None


async def test_an_addition_whose_answer_was_lost_counts_when_the_same_value_is_there(server):
    class LosesAnswers:
        """Sends the command, and loses the first answer."""

        def __init__(self, commands):
            self.commands, self.left = commands, 1

        async def set(self, *about, **more):
            await_ = await self.commands.set(*about, **more)
            if self.left:
                self.left -= 1
                raise ConnectionResetError("lost")
            return await_

        def __getattr__(self, name):
            return getattr(self.commands, name)

    async with opened("cache", f"url: {server.url}\nprefix: 'l:'\n{PATIENT}") as cache:
        commands = cache._redis
        cache._redis = LosesAnswers(commands)
        assert await cache.add("k", b"mine")
        await cache.set("theirs", b"x")
        cache._redis = LosesAnswers(commands)
        assert not await cache.add("theirs", b"mine")


async def test_passwords_are_used_and_a_wrong_one_is_said():
    with redis_server("requirepass p@ss", password="p@ss") as server:
        address = server.url.replace("//", "//:p%40ss@")
        async with opened("cache", f"url: {address}") as cache:
            await cache.set("k", b"v")
            assert server.client.get("k") == b"v"
        wrong = server.url.replace("//", "//:other@")
        async with opened("cache", f"url: {wrong}\n{QUICK}") as cache:
            with pytest.raises(Retryable, match="password") as caught:
                await cache.get("k")
            assert "other" not in str(caught.value)


async def test_tls_verifies_the_server_and_shows_a_certificate(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("127.0.0.1", "client"):
        cert = authority.issue_cert(name)
        cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    lines = (
        "port 0",
        "tls-port PORT",
        f"tls-cert-file {tmp_path}/127.0.0.1.pem",
        f"tls-key-file {tmp_path}/127.0.0.1.pem",
        f"tls-ca-cert-file {tmp_path}/ca.pem",
    )
    how = {
        "ssl": True,
        "ssl_ca_certs": str(tmp_path / "ca.pem"),
        "ssl_certfile": str(tmp_path / "client.pem"),
        "ssl_keyfile": str(tmp_path / "client.pem"),
        "host": "127.0.0.1",
    }
    with redis_server(*lines, **how) as server:
        url = server.url.replace("redis:", "rediss:")
        shown = f"client_certs: [{{cert_file: {tmp_path}/client.pem}}]"
        trusted = f"root_cas_file: {tmp_path}/ca.pem"
        async with opened(
            "cache", f"url: {url}\ntls: {{enabled: true, {trusted}, {shown}}}"
        ) as cache:
            await cache.set("k", b"v")
            assert await cache.get("k") == b"v"
        for tls in ("{}", f"{{enabled: true, {trusted}}}", f"{{enabled: true, {shown}}}"):
            async with opened("cache", f"url: {url}\n{QUICK}\ntls: {tls}") as cache:
                with pytest.raises(Retryable):
                    await cache.get("k")
        async with opened(
            "cache", f"url: {url}\ntls: {{enabled: true, skip_cert_verify: true, {shown}}}"
        ) as cache:
            assert await cache.get("k") == b"v"


async def test_a_master_is_found_by_its_sentinels():
    with (
        redis_server() as server,
        redis_server(
            "port PORT",
            f"sentinel monitor mymaster 127.0.0.1 {server.port} 1",
        ) as sentinel,
    ):
        fields = f"url: {sentinel.url}\nkind: failover\nmaster: mymaster"
        async with opened("cache", fields) as cache:
            await cache.set("k", b"v")
        assert server.client.get("k") == b"v"


async def test_a_cluster_is_asked_where_the_key_is():
    with redis_server("cluster-enabled yes", f"cluster-port {free_port()}") as server:
        server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in str(server.client.execute_command("CLUSTER", "INFO")):
            pass
        async with opened("cache", f"url: {server.url}\nkind: cluster") as cache:
            await cache.set("k", b"v")
            assert await cache.get("k") == b"v"
            assert not await cache.add("k", b"w")
        fields = f"url: {server.url}\nkind: cluster\nkey: limit\ncount: 1\ninterval: 1m"
        async with opened("rate_limit", fields) as limit:
            assert await limit.access() == 0
            assert await limit.access() > 50


async def test_a_limit_is_shared_and_says_when_it_is_worth_asking_again(server):
    fields = f"url: {server.url}\nkey: limit\ncount: 2\ninterval: 1m"
    async with opened("rate_limit", fields) as one, opened("rate_limit", fields) as other:
        assert [await one.access(), await other.access()] == [0, 0]
        assert 50 < await one.access() <= 60
        assert 50 < await other.access() <= 60
        server.client.pexpire("limit", 1)
        while server.client.exists("limit"):
            pass
        assert await one.access() == 0


async def test_a_count_without_an_end_gets_one(server):
    server.client.set("stuck", 100)
    fields = f"url: {server.url}\nkey: stuck\ncount: 2\ninterval: 1m"
    async with opened("rate_limit", fields) as limit:
        assert 59 < await limit.access() <= 60
        assert server.client.pttl("stuck") > 0


async def test_a_limit_whose_server_is_away_lets_nothing_pass():
    with redis_server() as server:
        pass
    async with opened("rate_limit", f"url: {server.url}\nkey: k") as limit:
        with pytest.raises(Retryable, match=r"rate_limit_resources\.0\.redis: redis: "):
            await limit.access()


async def test_what_is_missing_or_contradicts_is_a_fault_of_the_config(monkeypatch):
    with pytest.raises(ConfigError, match="name the master"):
        async with opened("cache", "url: redis://x\nkind: failover"):
            pass
    for url in ("http://x", "redis://x/name", "x"):
        with pytest.raises(InvalidConfig, match="Redis"):
            opened("cache", f"url: {url}")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'openmeter-collector\[redis\]'"):
        async with opened("cache", "url: redis://x"):
            pass
