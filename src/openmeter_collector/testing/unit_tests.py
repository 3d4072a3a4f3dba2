"""Runs the unit tests that stand in configs: batches in, conditions on what comes out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from openmeter_collector.component.env import Chain
from openmeter_collector.component.node import Node
from openmeter_collector.config.decode import Decoder
from openmeter_collector.config.model import Resources, TestMessage, UnitTest
from openmeter_collector.config.pointers import tree_of
from openmeter_collector.config.tree import Place
from openmeter_collector.config.unit_tests import (
    BadTarget,
    Case,
    Definition,
    Subject,
    read_cases,
    subject_of,
)
from openmeter_collector.engine.environment import ComponentEnv, Surroundings, open_resources
from openmeter_collector.errors import ConfigError
from openmeter_collector.message import Batch, Message
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import Trust
from openmeter_collector.telemetry.counters import MetricStore
from openmeter_collector.telemetry.logs import Log
from openmeter_collector.testing.conditions import Unreadable, failures
from openmeter_collector.values import json


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed. `line` is where it begins in its file."""

    name: str
    line: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.name} [line {self.line}]:", *self.reasons])


@dataclass(slots=True)
class Outcome:
    """What came of the tests of one file.

    Attributes:
        cases: how many there are.
        failed: those that failed.
        broken: why they could not be run, or "".
    """

    cases: int = 0
    failed: list[Failure] = field(default_factory=list)
    broken: str = ""


async def run_tests(
    definition: Definition,
    registry: Registry,
    *,
    env: Mapping[str, str] = os.environ,
    resource_files: Iterable[Path] = (),
    log: Log | None = None,
    trust: Trust | None = None,
) -> Outcome:
    """Run all tests of a config. Never raises for what is wrong with it: that is in the outcome."""
    outcome = Outcome()
    bench = _Bench(definition, registry, tuple(resource_files), log, trust)
    async with AsyncExitStack() as stack:
        try:
            cases = read_cases(definition, registry, env)
        except ConfigError as error:
            outcome.broken = str(error)
            return outcome
        outcome.cases = len(cases)
        for case in cases:
            with _environment(case.test.environment, env) as seen:
                try:
                    reasons = await bench.run(case, seen, stack)
                except (BadTarget, Unreadable, ConfigError) as error:
                    outcome.broken = f"test case {case.index} failed: {error}"
                    return outcome
            if reasons:
                outcome.failed.append(Failure(case.test.name, case.line, tuple(reasons)))
    return outcome


@contextmanager
def _environment(added: Mapping[str, str], env: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The process's environment with that of a test; mappings ask it while they run."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield {**env, **added}
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Bench:
    """Processors of one file, opened once for all tests that are about the same."""

    def __init__(
        self,
        definition: Definition,
        registry: Registry,
        resource_files: Sequence[Path],
        log: Log | None,
        trust: Trust | None,
    ) -> None:
        self._definition = definition
        self._registry = registry
        self._resource_files = resource_files
        self._log = log
        self._trust = trust
        self._opened: dict[str, Chain] = {}

    async def run(self, case: Case, env: Mapping[str, str], stack: AsyncExitStack) -> list[str]:
        test = case.test
        folder = self._definition.file.parent
        chain = await self._chain(case, env, stack)
        batches = [*test.input_batches, *([test.input_batch] if test.input_batch else [])]
        results: list[Batch] = []
        for given in batches:
            batch = [_message(one, folder).at(index) for index, one in enumerate(given)]
            results += chain.run_sync(batch) if chain.sync else await chain.run(batch)
        return _compared(test, results, folder)

    async def _chain(self, case: Case, env: Mapping[str, str], stack: AsyncExitStack) -> Chain:
        test = case.test
        key = repr((test.target_mapping or test.target_processors, test.environment, test.mocks))
        if key not in self._opened:
            if test.target_mapping:
                subject = self._mapping(test)
            else:
                subject = subject_of(
                    self._definition,
                    case,
                    self._registry,
                    env,
                    self._resource_files,
                    self._trust,
                )
            self._opened[key] = await self._open(subject, stack)
        return self._opened[key]

    def _mapping(self, test: UnitTest) -> Subject:
        """A mapping file, as the one processor there is."""
        path = self._definition.file.parent / test.target_mapping
        decoder = Decoder(self._registry)
        place = Place(str(path), 1, 1)
        node = decoder.component("processor", tree_of({"mapping": f"file://{path}"}, place), "root")
        faults = [one for one in decoder.report.problems if one.severity == "error"]
        if faults:
            told = "; ".join(one.friendly() for one in faults)
            raise BadTarget(f"failed to parse mapping file '{test.target_mapping}': {told}")
        return Subject((node,), Resources())

    async def _open(self, subject: Subject, stack: AsyncExitStack) -> Chain:
        surroundings = Surroundings(
            self._log or Log.to_stderr(), MetricStore(), listen=_no_network, mount=_no_network
        )
        resources = await open_resources(subject.resources, surroundings, stack)
        env = ComponentEnv(surroundings, resources, Node("processor", "test", _Nothing(), "root"))
        return await stack.enter_async_context(env.processors(subject.processors))


class _Nothing:
    """The config of what stands around processors under test."""

    @asynccontextmanager
    async def open(self, env: object) -> AsyncIterator[None]:
        del env
        yield None


def _no_network(*_: object) -> NoReturn:
    raise ConfigError("a processor under test cannot serve HTTP")


def _message(given: TestMessage, folder: Path) -> Message:
    content = given.content.encode("utf-8", "surrogateescape")
    if given.json_content is not None:
        content = json.dumps(given.json_content)
    elif given.file_content:
        try:
            content = (folder / given.file_content).read_bytes()
        except OSError as error:
            raise Unreadable(
                f"failed to read file_content '{given.file_content}': {error.strerror}"
            ) from None
    return Message(content, dict(given.metadata))


def _compared(test: UnitTest, results: Sequence[Batch], folder: Path) -> list[str]:
    wanted = test.output_batches
    found: list[str] = []
    if len(results) < len(wanted):
        found.append(f"wrong batch count, expected {len(wanted)}, got {len(results)}")
    for number, batch in enumerate(results):
        if number >= len(wanted):
            shown = " ".join(one.content.decode("utf-8", "replace") for one in batch)
            found.append(f"unexpected batch: [{shown}]")
            continue
        conditions = wanted[number]
        if len(conditions) != len(batch):
            found.append(
                f"mismatch of output batch {number} message counts, "
                f"expected {len(conditions)}, got {len(batch)}"
            )
        for index, message in enumerate(batch):
            if index >= len(conditions):
                text = message.content.decode("utf-8", "replace")
                found.append(f"unexpected message from batch {number}: {text}")
                continue
            where = f"batch {number} message {index}: "
            faults = failures(conditions[index], message, folder)
            found += [where + fault for fault in faults]
            if faults and message.error is not None:
                found.append(f"{where}{message.error}")
    return found
