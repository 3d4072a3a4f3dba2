"""Runs branches in tiers, and notes what became of each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, Final

from openmeter_collector.api import (
    AsyncProcessor,
    Batch,
    ConfigError,
    Env,
    Example,
    Message,
    Processor,
    ProcessorRef,
    field,
    processor,
)
from openmeter_collector.bloblang.paths import find, split
from openmeter_collector.bloblang.syntax import Assign, IfStatement, Meta
from openmeter_collector.components.processors.branch import Brancher, BranchFields, Round
from openmeter_collector.components.processors.common import Flag, processor_of

ENRICH = Example(
    "Look up two things at once, then a third that needs both",
    """
    cache_resources:
      - label: facts
        memory: {}
    processor_resources:
      - label: enriched
        workflow:
          meta_path: meta.lookups
          branches:
            plan:
              request_map: root.key = this.subject
              processors:
                - cache: {resource: facts, operator: get, key: 'plan/${! json("key") }'}
              result_map: root.data.plan = content().string()
            region:
              request_map: root.key = this.subject
              processors:
                - cache: {resource: facts, operator: get, key: 'region/${! json("key") }'}
              result_map: root.data.region = content().string()
            price:
              request_map: root.key = this.data.plan + "/" + this.data.region
              processors:
                - cache: {resource: facts, operator: get, key: 'price/${! json("key") }'}
              result_map: root.data.price = content().string()
    """,
)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def _check_names(branches: Mapping[str, BranchFields]) -> str | None:
    for name in branches:
        if not _NAME.fullmatch(name):
            return (
                f"workflow branch name '{name}' contains invalid characters; use A-Z, 0-9, _ and -"
            )
    return None


@processor("workflow", categories=("Composition",), examples=[ENRICH])
class Workflow:
    """Runs `branch` processors in an order that follows from what they need of each other.

    Without `order`, a branch runs after all whose `result_map` assigns what its `request_map` reads
    (the path itself, or one that leads to it); those that need nothing of each other run at the same
    time. They then see the message as it was before, and their results are put into it one by one.

    What became of the branches is written to `meta_path` of the message, as names under `succeeded`
    and `skipped` and, under `failed`, names with errors. When a message that has that comes again,
    what succeeded or was skipped is not run again, and the old account is kept as `previous`. A list
    of names at `apply` runs these alone. A message on which a branch failed is not flagged: check
    `this.meta.workflow.failed`. With an empty `meta_path` nothing is written, and it is flagged.
    """

    meta_path: str = field(
        default="meta.workflow", doc="Where the account is kept in the message; empty keeps none."
    )
    order: list[list[str]] = field(
        default_factory=list,
        doc="Tiers of names, one after the other; what is in one tier runs at the same time. A name "
        "that is not in `branches` is the label of a `branch` in `processor_resources`.",
        examples=[[["foo", "bar"], ["baz"]]],
    )
    branch_resources: list[ProcessorRef] = field(
        default_factory=list,
        advanced=True,
        doc="Labels of `branch` processors in `processor_resources` that take part. Not needed for "
        "those that `order` names.",
    )
    branches: dict[str, BranchFields] = field(
        default_factory=dict, doc="The branches by name.", lint=_check_names
    )

    @asynccontextmanager
    async def open(self, env: Env) -> AsyncIterator[Processor | AsyncProcessor]:
        """Open all branches and settle their order."""
        where = f"{env.node.where} workflow"
        branches = self._all(env, where)
        tiers = self.order or resolved({name: needs(one) for name, one in branches.items()}, where)
        _check_order(tiers, branches, where)
        async with AsyncExitStack() as stack:
            opened = {}
            waits = False
            for name, config in branches.items():
                chain = await stack.enter_async_context(env.processors(config.processors))
                opened[name] = Brancher(config, chain, env)
                waits = waits or not chain.sync
            flow = _Flow(self, tiers, opened, env, waits=waits)
            yield processor_of(flow.run, waits=waits)

    def _all(self, env: Env, where: str) -> dict[str, BranchFields]:
        found: dict[str, BranchFields] = dict(self.branches)
        listed = [name for tier in self.order for name in tier if name not in found]
        for name in dict.fromkeys([*self.branch_resources, *listed]):
            if name in self.branches:
                raise ConfigError(
                    f"{where}: branch resource {name!r} has the name of a branch; rename one"
                )
            node = env.processor_node(name)
            if node is None:
                raise ConfigError(
                    f"{where}: there is no branch and no processor resource {name!r}; add one"
                )
            if not isinstance(node.config, BranchFields):
                raise ConfigError(
                    f"{where}: processor resource {name!r} is a {node.name}; a branch is expected"
                )
            found[name] = node.config
        return found


Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a branch reads and what it assigns: paths that begin with `path` or `metadata`."""

    reads: tuple[Path, ...]
    gives: tuple[Path, ...]


def needs(config: BranchFields) -> Needs:
    """What the mappings of a branch say about it."""
    reads: list[Path] = []
    if config.request_map is not None:
        found = config.request_map.program.reads
        reads += [("path", *split(one)) for one in sorted(found.paths) if one]
        reads += [("metadata", key) for key in sorted(found.metadata) if key]
    gives: list[Path] = []
    if config.result_map is not None:
        gives += _given(config.result_map.program.program.statements)
    return Needs(tuple(reads), tuple(gives))


def _given(statements: Iterable[Any]) -> list[Path]:
    found: list[Path] = []
    for statement in statements:
        match statement:
            case IfStatement(branches=branches):
                for _, inner in branches:
                    found += _given(inner)
            case Assign(path=path):
                found.append(("path", *path))
            case Meta(key=key):
                found.append(("metadata",) if key is None else ("metadata", key))
    return found


def resolved(branches: Mapping[str, Needs], where: str) -> list[list[str]]:
    """Tiers in which each branch comes after all that give what it reads.

    Raises:
        ConfigError: some wait for each other.
    """
    left = {
        name: {
            other
            for other, its in branches.items()
            if other != name and any(_below(one, its.gives) for one in own.reads)
        }
        for name, own in branches.items()
    }
    tiers = []
    while left:
        tier = sorted(name for name, waits_for in left.items() if not waits_for & left.keys())
        if not tier:
            raise ConfigError(
                f"{where}: branches {', '.join(sorted(left))} wait for each other's results; "
                "write an order"
            )
        tiers.append(tier)
        for name in tier:
            del left[name]
    return tiers


def _below(path: Path, given: Iterable[Path]) -> bool:
    return any(path[: len(one)] == one for one in given)


def _check_order(tiers: list[list[str]], branches: Iterable[str], where: str) -> None:
    named = [name for tier in tiers for name in tier]
    for number, tier in enumerate(tiers):
        if not tier:
            raise ConfigError(f"{where}: tier {number} of the order is empty; remove it")
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: {twice[0]!r} is twice in the order; name it once")
    if missing := sorted(set(branches) - set(named)):
        raise ConfigError(f"{where}: not in the order: {', '.join(missing)}; add them to a tier")


@dataclass(slots=True)
class _Account:
    """What became of the branches for one message."""

    succeeded: set[str]
    skipped: set[str] = attribute(default_factory=set)
    failed: dict[str, str] = attribute(default_factory=dict)

    def fail(self, name: str, why: Exception) -> None:
        self.succeeded.discard(name)
        self.failed[name] = str(why)

    def skip(self, name: str) -> None:
        self.succeeded.discard(name)
        self.skipped.add(name)

    def value(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "succeeded": sorted(self.succeeded),
            "skipped": sorted(self.skipped),
            "failed": dict(sorted(self.failed.items())),
        }
        return {key: value for key, value in said.items() if value}


class _Flow:
    def __init__(
        self,
        config: Workflow,
        tiers: list[list[str]],
        branches: Mapping[str, Brancher],
        env: Env,
        *,
        waits: bool,
    ) -> None:
        self._tiers = tiers
        self._branches = branches
        self._meta = split(config.meta_path) if config.meta_path else ()
        self._waits = waits
        self._flag = Flag(env)

    async def run(self, batch: Batch) -> list[Batch]:
        made = list(batch)
        done_before = [self._left_out(message) for message in batch]
        accounts = [_Account(set(self._branches)) for _ in batch]
        for tier in self._tiers:
            rounds = await self._ask(tier, list(made), done_before)
            for name, one in zip(tier, rounds, strict=True):
                self._branches[name].answer(made, one)
                took_part = set(one.places)
                for index, account in enumerate(accounts):
                    if index in one.failed:
                        account.fail(name, one.failed[index])
                    elif index not in took_part:
                        account.skip(name)
        made = [self._told(one, account) for one, account in zip(made, accounts, strict=True)]
        return [made] if made else []

    async def _ask(self, tier: list[str], batch: Batch, done_before: list[set[str]]) -> list[Round]:
        asking = []
        for name in tier:
            left_out = {index for index, names in enumerate(done_before) if name in names}
            asking.append(self._branches[name].ask(batch, left_out))
        if not self._waits or len(asking) == 1:
            return [await one for one in asking]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one) for one in asking]
        return [task.result() for task in running]

    def _left_out(self, message: Message) -> set[str]:
        """The branches that are not to be run on a message, by the account it brings along."""
        if not self._meta:
            return set()
        try:
            account = find(message.structured(), self._meta)
        except (ValueError, RecursionError):
            return set()
        if not isinstance(account, dict):
            return set()
        known = set(self._branches)
        left_out = known & _names(account.get("skipped"))
        if apply := account.get("apply"):
            left_out = (known if isinstance(apply, list) else left_out) - _names(apply)
        return left_out | (known & _names(account.get("succeeded")))

    def _told(self, message: Message, account: _Account) -> Message:
        if not self._meta:
            if account.failed:
                names = " ".join(sorted(account.failed))
                return self._flag(message, f"workflow branches failed: [{names}]")
            return message
        try:
            return message.with_value(_noted(message.structured(), self._meta, account.value()))
        except (ValueError, RecursionError) as error:
            return self._flag(message, f"no account can be written: {error}")


def _names(value: Any) -> set[str]:
    return {one for one in value if isinstance(one, str)} if isinstance(value, list) else set()


def _noted(document: Any, path: Path, account: dict[str, Any]) -> dict[str, Any]:
    """The document with an account at a path; what was there becomes its `previous`."""
    if not isinstance(document, dict):
        raise ValueError("the message is no object")  # noqa: TRY004 - data, not code
    first, *rest = path
    before = document.get(first)
    if rest:
        inner = before if isinstance(before, dict) else {}
        return {**document, first: _noted(inner, tuple(rest), account)}
    return {**document, first: account if before is None else {**account, "previous": before}}
