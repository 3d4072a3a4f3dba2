"""What of a config is a worker's own, and how it is remembered how many there were."""

from pathlib import Path

import pytest

from openmeter_collector.cli import workers
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.cli.worker import CANNOT_START, Worker, numbered
from openmeter_collector.cli.workers import Roll, Workers
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.config import Config, read
from openmeter_collector.engine.replicas import LeaderFlags
from openmeter_collector.engine.retry import BackOff
from openmeter_collector.errors import ConfigError, StorageError
from openmeter_collector.telemetry.logs import Log, LogOptions

CONFIG = """
http: {address: 0.0.0.0:4195}
logger: {file: {path: log/out.log}}
leader_election: {enabled: true, only_on_leader: [chosen]}
input_resources:
  - label: there
    cloudevents: {}
input:
  broker:
    inputs:
      - cloudevents: {}
      - resource: there
      - http_server: {address: 0.0.0.0:8081}
      - http_server: {path: /on/the/service}
      - stdin: {}
      - schedule: {interval: 1m, input: {generate: {mapping: 'root = {}'}}}
      - label: chosen
        cloudevents: {address: 0.0.0.0:8082}
buffer: {sqlite: {path: data/buffer.db}}
output: {drop: {}}
"""


@pytest.fixture
def config():
    return read(CONFIG, standard_registry(), Config, env={}).or_raise()


def test_worker_0_is_what_a_single_process_would_be(config):
    worker = Worker(0, 2, 5)
    assert worker.own(config) is config
    assert worker.flags(LeaderFlags(enabled=True)).enabled


def test_other_workers_have_files_and_an_address_of_their_own_and_no_election(config):
    worker = Worker(2, 3, 5)
    own = worker.own(config)
    assert own.buffer.config.path == str(Path.cwd() / "data/buffer.2.db")
    assert own.logger.file.path == "log/out.2.log"
    assert own.http.address == "0.0.0.0:4197"
    assert not own.leader_election.enabled
    assert not worker.flags(LeaderFlags(enabled=True)).enabled


def test_a_worker_that_only_drains_serves_nothing(config):
    assert not Worker(3, 3, 5).own(config).http.enabled


def test_other_workers_run_inputs_that_share_a_port_and_no_others(config):
    why = Worker(1, 2, 5).leaves_out(config)
    broker = config.input
    assert why(broker) == ""
    assert [bool(why(node)) for node in broker.config.inputs] == [
        False, False, False, True, True, True, True,
    ]  # fmt: skip
    first = Worker(0, 2, 5).leaves_out(config)
    assert not any(first(node) for node in broker.config.inputs)
    drains = Worker(2, 2, 5).leaves_out(config)
    assert drains(broker)


def test_port_0_cannot_be_shared():
    with pytest.raises(ConfigError, match="port 0"):
        Worker(0, 2, 5).listen()(None, ListenOptions("127.0.0.1:0"))


def test_the_option_between_processes_is_not_for_people():
    assert Worker.of("1:5", 2) == Worker(1, 2, 5)
    with pytest.raises(ConfigError, match="--workers"):
        Worker.of("1", 2)


def test_a_number_goes_before_the_suffix():
    assert numbered(Path("/d/buffer.db"), 1) == Path("/d/buffer.1.db")
    assert numbered(Path("/d/buffer"), 2) == Path("/d/buffer.2")
    assert numbered(Path("/d/buffer.db"), 0) == Path("/d/buffer.db")


def test_how_many_there_were_is_remembered(tmp_path):
    roll = Roll.beside(tmp_path / "new" / "buffer.db")
    assert roll.read() == 1
    roll.write(3)
    assert roll.read() == 3
    assert [one.name for one in roll.path.parent.iterdir()] == ["buffer.db.workers"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"workers": 0}', '{"workers": "2"}'])
def test_a_number_that_cannot_be_read_is_never_taken_for_none(tmp_path, text):
    roll = Roll.beside(tmp_path / "buffer.db")
    roll.path.write_text(text)
    with pytest.raises(StorageError, match="how many workers"):
        roll.read()


@pytest.mark.parametrize(
    ("lived", "codes", "failed"),
    [(False, [CANNOT_START], True), (True, [CANNOT_START, 0], False), (False, [1, -9, 0], False)],
)
async def test_only_a_start_that_fails_at_once_is_not_tried_again(
    monkeypatch, lived, codes, failed
):
    lives = iter(codes)

    async def live(self, index):
        return next(lives)

    monkeypatch.setattr(workers, "_LIVED", -1.0 if lived else 30.0)
    monkeypatch.setattr(workers, "_AGAIN", BackOff(initial=0.001, longest=0.001))
    monkeypatch.setattr(Workers, "_live", live)
    lines = []
    children = Workers(1, 1, Log(LogOptions(format="json"), lines.append), None)
    await children._keep(0)
    assert next(lives, None) is None, "it was started as often as that"
    assert children._failed is failed
    assert len(lines) == (1 if failed else len(codes) - 1)
