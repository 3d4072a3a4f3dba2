"""A sandbox, or a real collector in front of one, for a client to be pointed at."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from openmeter_collector.testing.process import CollectorProcess, collector_process, read_metrics
from openmeter_collector.testing.sandbox import Running, Sandbox

TOKEN = "s3cret"
CONFIG = """\
logger: {{format: json}}
shutdown_timeout: 5s
http: {{address: "127.0.0.1:0"}}
{rate_limits}
input:
  cloudevents:
    address: 127.0.0.1:0
    tokens: ["{token}"]
    max_body_bytes: 64KiB
    rate_limit: "{rate_limit}"
buffer:
  sqlite:
    path: {folder}/buffer.db
    max_bytes: {max_bytes}
output:
  openmeter:
    url: {url}
    token: {token}
    batching: {{count: 100, period: 20ms}}
"""
RATE_LIMITS = """\
rate_limit_resources:
  - label: few
    local: {count: 2, interval: 1s}
"""


@dataclass
class Target:
    """Something an SDK is pointed at, and the sandbox where events end up.

    `collector` is None when the SDK talks to the sandbox itself.
    """

    url: str
    token: str
    sandbox: Running
    collector: CollectorProcess | None = None

    async def arrived(self, count):
        """The events that arrived, parsed, once there are so many."""
        await self.sandbox.wait_for_events(count)
        return [orjson.loads(event.raw) for event in self.sandbox.events]

    async def metric(self, name):
        """A figure of the collector, summed over labels; 0 when there is none of that name."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.collector.service}/metrics") as answer,
        ):
            return read_metrics(await answer.text()).get(name, 0)


@asynccontextmanager
async def collector_target(folder, *, max_bytes=0, rate_limit="", sandbox_up=True):
    async with Sandbox(tokens=[TOKEN]).serve() as sandbox:
        if not sandbox_up:
            sandbox.down()
        config = folder / "config.yaml"
        config.write_text(
            CONFIG.format(
                folder=folder,
                url=sandbox.url,
                token=TOKEN,
                max_bytes=max_bytes,
                rate_limit=rate_limit,
                rate_limits=RATE_LIMITS if rate_limit else "",
            )
        )
        log = folder / "collector.log"
        async with collector_process("run", "-c", str(config), log_file=log) as collector:
            yield Target(collector.ingest, TOKEN, sandbox, collector)
