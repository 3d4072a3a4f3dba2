"""Collector processes with leader election, and what can go wrong with them, their source and Kubernetes' API."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import defaultdict

import orjson
from aiohttp import web

from kit.waiting import eventually
from openmeter_collector.engine.stores.kubernetes import _kept
from openmeter_collector.values.windows import Ledger, moment_of, moment_text

# As in deploy/kubernetes.
NAMESPACE = "openmeter"
LOCK = "openmeter-collector"
CUSTOMERS = ("a", "b", "c")
CONFIG = """\
logger: {{level: INFO, format: json}}
shutdown_timeout: 5s
http: {{enabled: false}}
input:
  label: usage
  prometheus:
    url: {source}
    schedule: '@every 500ms'
    values: series
    timeout: 2s
    queries:
      - query: {{name: used, promql: 'used[$__window]'}}
buffer:
  sqlite: {{path: {folder}/buffer.db, min_free_bytes: 1MiB}}
pipeline:
  processors:
    - mapping: |
        root = {{
          "id": "%s/%s/%s".format(this.name, this.metric.customer, meta("window_end")),
          "specversion": "1.0",
          "type": this.name,
          "source": "test",
          "subject": this.metric.customer,
          "time": meta("window_start"),
          "data": {{"value": this.value}},
        }}
output:
  openmeter: {{url: '{sink}', batching: {{count: 50, period: 20ms}}}}
"""


class World:
    """The source, the destination, and what can go wrong with the source."""

    def __init__(self):
        self.arrived = []
        self.source_down = False
        self.url = ""

    @contextlib.asynccontextmanager
    async def serve(self):
        app = web.Application()
        app.router.add_post("/api/v1/query", self._query)
        app.router.add_post("/api/v1/events", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _query(self, request):
        at = float((await request.post())["time"])
        if self.source_down:
            return web.Response(status=503)
        samples = [
            {"metric": {"customer": one}, "value": [at, str(round(at * 2) % 997 + len(one))]}
            for one in CUSTOMERS
        ]
        return web.json_response(
            {"status": "success", "data": {"resultType": "vector", "result": samples}}
        )

    async def _take(self, request):
        found = orjson.loads(await request.read())
        self.arrived += found if isinstance(found, list) else [found]
        return web.Response(status=204)


class Replica:
    """One collector process; the same pod name and volume over its lives."""

    def __init__(self, name, folder, world, server):
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "config.yaml"
        self.config.write_text(CONFIG.format(source=world.url, sink=world.url, folder=self.folder))
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(server.kubeconfig(namespace=NAMESPACE))
        self.environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "LEADER_ELECTION": "true",
            "K8S_NAMESPACE": NAMESPACE,
            "K8S_APP_INSTANCE": LOCK,
            "K8S_POD_NAME": name,
            "LEASE_DURATION": "2s",
            "LEASE_RENEW_DEADLINE": "1500ms",
            "LEASE_RETRY_PERIOD": "300ms",
        }
        self.process = None

    async def start(self):
        log = (self.folder / "log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openmeter_collector.cli.main", "run", "-c", str(self.config),
            env=self.environment, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self, number):
        self.send(number)
        await self.process.wait()


def ledger_of(server):
    """What the shared store says of the windows; None at first."""
    for lease in server.all_of("leases"):
        if lease["metadata"]["name"] == f"{LOCK}-state":
            for text in (lease["metadata"].get("annotations") or {}).values():
                kept = _kept(text)
                if kept.value is not None:
                    return Ledger.decode(kept.value)
    return None


async def torment(chance, rounds, replicas, server, world):
    """One trouble after the other; sometimes one on top of another."""
    for _ in range(rounds):
        holder = next(
            (one["spec"].get("holderIdentity") for one in server.all_of("leases") if one["spec"]),
            "",
        )
        leader = next((one for one in replicas if one.name == holder), chance.choice(replicas))
        kind = chance.choice(["api", "pause", "kill", "roll", "source", "pause+api"])
        if "pause" in kind:
            leader.send(signal.SIGSTOP)
        if "api" in kind:
            server.down = True
        if kind == "source":
            world.source_down = True
        if kind in {"kill", "roll"}:
            await leader.end(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await leader.start()
        await asyncio.sleep(chance.uniform(2.2, 3.5) if kind != "roll" else 1.0)
        server.down = world.source_down = False
        leader.send(signal.SIGCONT)
        await asyncio.sleep(chance.uniform(0.2, 1.5))


async def rehearse(folder, server, world, count, seed, rounds=7):
    """Several replicas under one trouble after the other; then each window has arrived, once.

    `server`: an API server, with `kubeconfig`, `all_of` and `down` as the one in memory has them.
    """
    chance = random.Random(seed)
    replicas = [Replica(f"r{at}", folder, world, server) for at in range(count)]
    try:
        for one in replicas:
            await one.start()
        await eventually(lambda: len(world.arrived) > 3 * len(CUSTOMERS), 60)
        await torment(chance, rounds, replicas, server, world)
        # All is well again: what was missed is made up for.
        await eventually(lambda: ledger_of(server), 60)
        reached = ledger_of(server).upto + 5_000

        def whole():
            ledger = ledger_of(server)
            return ledger and ledger.upto >= reached and not ledger.open

        await eventually(whole, 90)
        for one in replicas:
            await one.end(signal.SIGTERM)
    finally:
        for one in replicas:
            if one.process is not None and one.process.returncode is None:
                one.send(signal.SIGCONT)
                await one.end(signal.SIGKILL)
    check(world.arrived, ledger_of(server))
    (lease,) = [one for one in server.all_of("leases") if one["metadata"]["name"] == LOCK]
    assert lease["spec"]["leaseTransitions"] >= 1, "it did change hands"


def check(arrived, ledger):
    """No window is missing, none has two meanings."""
    payloads = defaultdict(set)
    for event in arrived:
        payloads[event["id"]].add(orjson.dumps(event, option=orjson.OPT_SORT_KEYS))
    assert ledger.lost == []
    upto = ledger.open[0].start if ledger.open else ledger.upto
    wanted = {
        f"used/{customer}/{moment_text(end)}"
        for customer in CUSTOMERS
        for end in range(ledger.begun + 500, upto + 1, 500)
    }
    assert wanted - payloads.keys() == set(), "a window is missing"
    assert all(len(one) == 1 for one in payloads.values()), "an id with two payloads"
    assert all(moment_of(one["time"]) >= ledger.begun for one in arrived)
