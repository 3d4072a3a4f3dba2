"""A config under way in front of a local OpenMeter."""

import json
from contextlib import asynccontextmanager

import aiohttp

from kit.waiting import eventually
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.testing.running import free_port, running
from openmeter_collector.testing.sandbox import Sandbox


@asynccontextmanager
async def delivering(config, tmp_path, **env):
    """A config under way in front of a local OpenMeter; gives how to wait for its events."""
    async with Sandbox(tokens=["om_test"]).serve() as sandbox:

        async def events(count=1):
            await eventually(lambda: len(sandbox.events) >= count)
            return [json.loads(event.raw) for event in sandbox.events]

        env = {
            "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
            "BUFFER_PATH": str(tmp_path / "buffer.db"),
            "OPENMETER_URL": sandbox.url,
            "OPENMETER_TOKEN": "om_test",
            **env,
        }
        async with running(config, standard_registry(), env) as collector:
            events.lines = collector.lines
            yield events


async def post(url, body, **headers):
    """Send until somebody listens."""

    async def answered():
        try:
            async with (
                aiohttp.ClientSession() as client,
                client.post(url, data=body, headers=headers) as answer,
            ):
                return answer.status
        except aiohttp.ClientConnectionError:
            return None

    return await eventually(answered)
