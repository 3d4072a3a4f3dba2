"""A real OpenTelemetry collector that reads a file and sends it to us over OTLP/HTTP."""

import asyncio
import stat
import subprocess
from contextlib import contextmanager

import pytest

from kit.needs import require
from kit.otlp import Intake, taking
from kit.waiting import eventually
from openmeter_collector.components.inputs.otlp import OtlpInput
from openmeter_collector.errors import Overloaded

CONFIG = """
receivers:
  filelog:
    include: [ "{folder}/*.log" ]
    start_at: beginning
exporters:
  otlphttp:
    endpoint: {http}
    retry_on_failure: {{ initial_interval: 200ms }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    logs: {{ receivers: [ filelog ], exporters: [ otlphttp ] }}
"""


@pytest.fixture
def collector():
    found = require("OpenTelemetry collector")
    found.chmod(found.stat().st_mode | stat.S_IXUSR)

    @contextmanager
    def started(folder, server):
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(folder=folder, http=server.http))
        process = subprocess.Popen(
            [found, "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    return started


async def test_what_it_was_told_to_send_again_it_sends_again_with_the_same_ids(collector, tmp_path):
    lines = [f"line {number}" for number in range(200)]
    (tmp_path / "a.log").write_text("\n".join(lines) + "\n")
    full = Overloaded("the journal is full", 1.0)
    full.at_once = True
    intake = Intake(full)
    async with taking(OtlpInput, intake, signals=["logs"]) as server:
        with collector(tmp_path, server):
            await eventually(lambda: server.around.metrics.total("otlp_put_off") > 1)
            intake.verdict = None
            await eventually(
                lambda: len({value["record"]["body"] for value in intake.values}) == 200
            )
            await asyncio.sleep(0)
    assert sorted(value["record"]["body"] for value in intake.values) == sorted(lines)
    assert len({message.metadata["otlp_id"] for message in intake.messages}) == 200
