"""The prometheus input against a real server: what the windows add up to is what the server says."""

import asyncio
import random
import time
from fractions import Fraction

import pytest

from kit.prometheus import prometheus
from kit.waiting import eventually
from kit.windows import START, Stored, WindowEnv, assert_tiled, running
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.values.windows import moment_of

REGISTRY = standard_registry()
CONFIG = """\
input:
  prometheus:
    url: {url}
    schedule: '@every {every}'
    query_offset: {offset}
    values: series
    timeout: 5s
    catch_up: {{max_parallel: 3}}
    queries:
      - query: {{name: summed, promql: 'sum by (customer) (sum_over_time(used[$__window]))'}}
      - query:
          name: grown
          promql: >-
            sum by (customer) (requests_total - (requests_total offset $__window or
            requests_total * 0))
      - query: {{name: edges, promql: 'sum_over_time(edges[$__window_open])'}}
      - query: {{name: broken, promql: 'sum_over_time(used[$__window]) + on() used'}}
"""


class LiveEnv(WindowEnv):
    """With a real network, and a clock that can be told where to begin."""

    def http(self, **options):
        return open_http_client(
            max_connections=options.get("max_connections", 4),
            max_response_bytes=options.get("max_response_bytes", 1 << 20),
        )


def opened(text, stored, now):
    node = load(text, REGISTRY, env={}).input
    env = LiveEnv(stored, node)
    env.offset = now - START - asyncio.get_running_loop().time()
    return node.config.open(env), env


async def fill(server, start, end):
    """A life of three customers; samples of `edges` lie exactly on the edges."""
    chance = random.Random(7)
    series = []
    for customer in ("a", "b", "c"):
        total, counted, used, edges = 0, [], [], []
        for at in range(start, end, 1000):
            total += chance.randrange(0, 50)
            counted.append((at + 137, float(total)))
            used.append((at + 311, chance.randrange(1, 10_000) / 8))
            edges.append((at, float(chance.randrange(1, 100))))
        for name, samples in (("requests_total", counted), ("used", used), ("edges", edges)):
            series.append(({"__name__": name, "customer": customer}, samples))
    await server.write(series)


def summed(stored, name):
    found = {}
    for message in stored.messages:
        told = message.structured()
        if told["name"] == name:
            key = f"customer={told['metric']['customer']}"
            found[key] = found.get(key, 0) + Fraction(str(told["value"]))
    return found


@pytest.mark.parametrize("offset", ["0s", "7s"])
async def test_sums_over_windows_are_what_the_server_says_of_the_whole(tmp_path, offset):
    """With kills of the server and restarts of the input in the middle."""
    later = int(offset[:-1]) * 1000
    end = int(time.time()) // 10 * 10_000 - 60_000
    start = end - 600_000
    async with prometheus(tmp_path) as server:
        await fill(server, start - later, end - later)
        stored = Stored()
        text = CONFIG.format(url=server.url, every="10s", offset=offset)

        async def life(now, until, *, kill=False):
            opening, env = opened(text, stored, now)
            async with opening as one, running(one, stored):
                if kill:
                    await eventually(lambda: len(stored.messages) > 20)
                    await server.kill()
                    await asyncio.sleep(0.2)
                    await server.start()
                await eventually(until)
            return env

        def reached(name, upto):
            def holds():
                try:
                    ledger = stored.ledger(name)
                except IndexError:
                    return False
                return ledger.upto == upto and not ledger.open

            return holds

        await life(start / 1000 + 1, lambda: len(stored.values) == 4)
        await life(start / 1000 + 305, lambda: len(stored.messages) > 30, kill=True)
        env = await life(
            end / 1000 + 0.1,
            lambda: all(reached(name, end)() for name in ("summed", "grown", "edges")),
        )
        for name, whole in (
            ("summed", "sum by (customer) (sum_over_time(used[600s]))"),
            ("grown", "sum by (customer) (last_over_time(requests_total[600s]))"),
            ("edges", "sum by (customer) (sum_over_time(edges[599999ms]))"),
        ):
            said = await server.value(whole, (end - later) / 1000)
            assert len(said) == 3
            exact = {key: Fraction(value) for key, value in said.items()}
            assert summed(stored, name) == exact, name
            for customer in ("a", "b", "c"):
                spans = sorted(
                    (moment_of(one.metadata["window_start"]), moment_of(one.metadata["window_end"]))
                    for one in stored.messages
                    if one.structured()["name"] == name
                    and one.structured()["metric"]["customer"] == customer
                )
                assert_tiled(spans, start - later, end - later)
        # One query that cannot be answered costs no other one, and its windows stay open.
        broken = stored.ledger("broken")
        assert broken.open
        assert not broken.lost
        assert any("422" in span.cause for span in broken.open)
        assert env.metrics.store.total("gaps_open") >= 1


async def test_a_server_that_comes_back_is_asked_for_what_was_missed(tmp_path):
    """In real time, with windows of half a second."""
    async with prometheus(tmp_path) as server:
        now = time.time()
        await server.write(
            [
                (
                    {"__name__": "used", "customer": "a"},
                    [(int(now * 1000) + at * 100, 1.0) for at in range(80)],
                )
            ]
        )
        stored = Stored()
        text = CONFIG.format(url=server.url, every="500ms", offset="0s")
        opening, _ = opened(text, stored, now)
        async with opening as one, running(one, stored):
            await eventually(lambda: "summed" in {m.structured()["name"] for m in stored.messages})
            await server.kill()
            await eventually(lambda: len(stored.ledger("summed").open) > 0 or None, 10)
            await server.start()
            begun = stored.ledger("summed").begun
            await eventually(
                lambda: (
                    not stored.ledger("summed").open and stored.ledger("summed").upto > begun + 4000
                )
            )
        spans = sorted(
            (moment_of(m.metadata["window_start"]), moment_of(m.metadata["window_end"]))
            for m in stored.messages
            if m.structured()["name"] == "summed"
        )
        assert_tiled(spans, spans[0][0], spans[-1][1])
