"""`sequence` with `sharded_join`."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from kit.pipes import REGISTRY as PIPES
from kit.pipes import Uncounted, surroundings
from openmeter_collector.api import (
    Checkpoint,
    ConfigError,
    Delivery,
    EndOfInput,
    Message,
    Retryable,
    input,
)
from openmeter_collector.config import load
from openmeter_collector.engine.environment import ComponentEnv, Resources
from openmeter_collector.engine.lives import keep_input_running
from openmeter_collector.engine.status import Connection

USERS = ['{"id":"A","name":"Mel"}', '{"id":"B","name":"Emma"}', '{"id":"C","name":"Geri"}']
HOBBIES = ['{"id":"C","hobby":"go"}', '{"id":"A","hobby":"rowing"}', '{"id":"A","hobby":"golf"}']
TOGETHER = [
    {"id": "A", "name": "Mel", "hobby": ["rowing", "golf"]},
    {"id": "B", "name": "Emma"},
    {"id": "C", "name": "Geri", "hobby": "go"},
]


class Intake(Uncounted):
    """Keeps what it gets, until it is told to settle it."""

    def __init__(self, fates=(), *, hold=False):
        self.fates = list(fates)
        self.hold = hold
        self.got = []
        self.waiting = []
        self.checkpoints = []
        self.told = asyncio.Event()

    async def put(self, delivery):
        self.checkpoints += delivery.checkpoints
        self.got += [json.loads(message.content) for message in delivery.batch]
        self.told.set()
        if self.hold:
            self.waiting.append(delivery)
        else:
            delivery.settle(self.fates.pop(0) if self.fates else None)

    def release(self):
        self.hold = False
        for delivery in self.waiting:
            delivery.settle(None)


class Join:
    """Two files and a config that joins them."""

    def __init__(self, folder, join, users=USERS, hobbies=HOBBIES, more=""):
        self.paths = [folder / "1", folder / "2"]
        for path, lines in zip(self.paths, (users, hobbies), strict=True):
            path.write_text("".join(line + "\n" for line in lines))
        one, two = (f"file: {{paths: ['{path}'], delete_on_finish: true}}" for path in self.paths)
        self.text = (
            f"input:\n  sequence:\n    sharded_join: {{{join}}}\n    inputs:\n"
            f"      - {one}\n{more}      - {two}\n"
        )
        self.lines = []
        self.change(lambda text: text)

    def change(self, how):
        """Read the config anew, with another text."""
        config = load(how(self.text), PIPES.with_(Positioned), env={})
        resources = Resources()
        resources.inputs = {node.label: node for node in config.input_resources}
        around = surroundings(self.lines)
        self.env = ComponentEnv(around, resources, config.input).at(config.input)

    async def run(self, intake):
        async with asyncio.timeout(20):
            await keep_input_running(self.env, intake, Connection("", "root.input"))
        return intake

    async def joined(self):
        found = (await self.run(Intake())).got
        return sorted(found, key=lambda one: json.dumps(one["id"]))

    @property
    def left(self):
        return sum(path.exists() for path in self.paths)


@pytest.mark.parametrize("iterations", [1, 2, 7])
async def test_messages_with_the_same_id_become_one(tmp_path, iterations):
    join = Join(tmp_path, f"type: full-outer, id_path: id, iterations: {iterations}")
    assert await join.joined() == TOGETHER
    assert join.left == 0


async def test_an_outer_join_gives_one_for_each_message_of_the_last_input(tmp_path):
    join = Join(tmp_path, "type: outer, id_path: id, iterations: 3, merge_strategy: replace")
    assert sorted((await join.joined()), key=json.dumps) == [
        {"hobby": "go", "id": "C", "name": "Geri"},
        {"hobby": "golf", "id": "A", "name": "Mel"},
        {"hobby": "rowing", "id": "A", "name": "Mel"},
    ]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("array", {"id": 1, "a": {"x": [1, 2], "y": [1, 2, 3]}, "b": 4}),
        ("replace", {"id": 1, "a": {"x": 2, "y": [3]}, "b": 4}),
        ("keep", {"id": 1, "a": {"x": 1, "y": [1, 2]}, "b": 4}),
    ],
)
async def test_what_is_there_twice_is_merged_by_the_strategy(tmp_path, strategy, expected):
    join = Join(
        tmp_path, f"type: full-outer, id_path: id, merge_strategy: {strategy}",
        ['{"id":1,"a":{"x":1,"y":[1,2]}}'], ['{"id":1,"a":{"x":2,"y":[3]},"b":4}'],
    )  # fmt: skip
    assert await join.joined() == [expected]


async def test_an_id_may_be_deep_and_what_has_none_is_dropped_and_counted(tmp_path):
    join = Join(
        tmp_path, 'type: full-outer, id_path: "a.b~1c", iterations: 3',
        ['{"a":{"b.c":"x"},"id":1}', "[1]", '{"a":1}', "no"], ['{"a":{"b.c":"x","d":2}}'],
    )  # fmt: skip
    assert await join.joined() == [{"a": {"b.c": "x", "d": 2}, "id": 1}]
    assert join.env.metrics.counter("input_join_dropped", "").value == 3


@pytest.mark.parametrize("iterations", [1, 2])
async def test_sources_are_told_when_the_joined_messages_are_safe_and_not_before(
    tmp_path, iterations
):
    join = Join(tmp_path, f"type: full-outer, id_path: id, iterations: {iterations}")
    intake = Intake(hold=True)
    running = asyncio.ensure_future(join.run(intake))
    await intake.told.wait()
    while iterations == 1 and len(intake.got) < 3:
        await asyncio.sleep(0)
    assert join.left == 2
    intake.release()
    await running
    assert join.left == 0


async def test_a_stop_before_that_leaves_everything_with_the_sources(tmp_path):
    join = Join(tmp_path, "type: full-outer, id_path: id")
    intake = Intake(hold=True)
    running = asyncio.ensure_future(join.run(intake))
    await intake.told.wait()
    running.cancel()
    await asyncio.wait({running})
    assert join.left == 2
    assert await join.joined() == TOGETHER


async def test_a_joined_message_that_failed_is_repeated(tmp_path):
    join = Join(tmp_path, "type: full-outer, id_path: id")
    intake = await join.run(Intake([Retryable("no"), Retryable("no")]))
    assert len(intake.got) == 5
    assert join.left == 0


async def test_what_came_between_two_iterations_is_not_lost(tmp_path):
    """It may belong to ids that had their turn; so the sources keep everything."""
    join = Join(tmp_path, "type: full-outer, id_path: id, iterations: 2")
    intake = Intake(hold=True)
    running = asyncio.ensure_future(join.run(intake))
    await intake.told.wait()
    with join.paths[0].open("a") as file:
        file.writelines(f'{{"id":"new-{at}"}}\n' for at in range(20))
    intake.release()
    await running
    assert join.left == 2
    assert any("other messages in a later iteration" in line for line in join.lines)


async def test_memory_is_bounded(tmp_path):
    users = [json.dumps({"id": f"{at}", "text": "x" * 1000}) for at in range(20)]
    join = Join(tmp_path, "type: full-outer, id_path: id, max_size: 20KB", users)
    with pytest.raises((ConfigError, ExceptionGroup)) as caught:
        await join.run(Intake())
    assert caught.group_contains(
        ConfigError, match=r"max_size \(20000 bytes\).* raise iterations or max_size"
    )
    assert join.left == 2
    more = "type: full-outer, id_path: id, iterations: 8, max_size: 20KB"
    assert len(await Join(tmp_path, more, users).joined()) == 22


async def test_processors_of_an_input_run_before_the_join(tmp_path):
    more = """        processors:
          - mapping: 'root = if this.id == "B" { deleted() } else { this }'
          - mapping: 'root = this.without("name")'
"""
    join = Join(tmp_path, "type: full-outer, id_path: id", hobbies=[], more=more)
    assert await join.joined() == [{"id": "A"}, {"id": "C"}]
    assert join.left == 0


async def test_an_input_that_does_not_read_to_an_end_is_refused(tmp_path):
    join = Join(tmp_path, "type: full-outer, id_path: id", more="      - inproc: x\n")
    with pytest.raises((ConfigError, ExceptionGroup)) as caught:
        await join.run(Intake())
    assert caught.group_contains(ConfigError, match="cannot be held until it has ended")


FIRST = "file: {paths: ['%s'], delete_on_finish: true}"
HELD = {
    "broker": "broker: {inputs: [{%s}, {positioned: {}}]}",
    "batched broker": "broker: {inputs: [{%s}, {positioned: {}}], batching: {count: 4}}",
    "batched": "batched: {child: {broker: {inputs: [{%s}, {positioned: {}}]}}, policy: {count: 2}}",
    "sequence": "sequence: {inputs: [{%s}, {positioned: {}}]}",
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("iterations", [1, 2])
async def test_inputs_that_only_hold_others_can_be_joined(tmp_path, held, iterations):
    POSITIONS.clear()
    join = Join(tmp_path, f"type: full-outer, id_path: id, iterations: {iterations}")
    first = FIRST % join.paths[0]
    join.change(lambda text: text.replace(first, HELD[held] % first))
    intake = Intake(hold=True)
    running = asyncio.create_task(join.run(intake))
    await intake.told.wait()
    assert join.left == 2
    assert "safe" not in POSITIONS
    intake.release()
    await running
    assert sorted(intake.got, key=lambda one: one["id"]) == [*TOGETHER, {"id": "P", "n": [1, 2]}]
    assert join.left == 0
    assert intake.checkpoints == [Checkpoint("p1", b""), Checkpoint("p2", b"")]
    assert POSITIONS[-3:] == ["safe", "safe", "closed"]


async def test_an_input_resource_can_be_joined(tmp_path):
    join = Join(tmp_path, "type: full-outer, id_path: id")
    first = FIRST % join.paths[0]
    more = f"input_resources: [{{label: users, {first}}}]\n"
    join.change(lambda text: text.replace(first, "resource: users") + more)
    assert await join.joined() == TOGETHER
    assert join.left == 0


async def test_what_is_received_is_refused_inside_of_others_too(tmp_path):
    join = Join(tmp_path, "type: full-outer, id_path: id")
    first = FIRST % join.paths[0]
    join.change(lambda text: text.replace(first, "broker: {inputs: [{inproc: x}]}"))
    with pytest.raises((ConfigError, ExceptionGroup)) as caught:
        await join.run(Intake())
    assert caught.group_contains(ConfigError, match="'inproc' reads cannot be held until it has")


POSITIONS = []
"""Of inputs that are open, and of those that closed, in order."""


@input("positioned")
class Positioned:
    """Gives two messages with positions; what they are acknowledged after is noted."""

    @asynccontextmanager
    async def open(self, env):
        del env
        POSITIONS.append("open")
        yield _Positioned()
        POSITIONS.append("closed")


class _Positioned:
    def __init__(self):
        self.at = 0

    async def read(self):
        if self.at == 2:
            raise EndOfInput("end")
        self.at += 1
        message = Message(b'{"id":"P","n":%d}' % self.at)
        return Delivery(
            [message],
            lambda failure: POSITIONS.append("safe" if failure is None else "failed"),
            [Checkpoint(f"p{self.at}", b"")],
        )


@pytest.mark.parametrize("iterations", [1, 2])
async def test_positions_come_after_the_joined_messages_and_the_input_is_open_until_then(
    tmp_path, iterations
):
    POSITIONS.clear()
    join = Join(
        tmp_path,
        f"type: full-outer, id_path: id, iterations: {iterations}",
        more="      - positioned: {}\n",
    )
    intake = Intake()
    put = intake.put

    async def noting(delivery):
        POSITIONS.append([one.key for one in delivery.checkpoints] or "message")
        await put(delivery)

    intake.put = noting
    await join.run(intake)
    assert {"id": "P", "n": [1, 2]} in intake.got
    assert POSITIONS[-4:] == [["p1", "p2"], "safe", "safe", "closed"]
    assert POSITIONS.count("safe") == 2
    assert POSITIONS.count("open") == POSITIONS.count("closed") == iterations


async def test_a_join_needs_an_id(tmp_path):
    with pytest.raises(ConfigError, match="id_path: is empty"):
        await Join(tmp_path, "type: outer").run(Intake())
