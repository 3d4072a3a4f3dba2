"""What makes a process one of several replicas: the election, and the store they share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from openmeter_collector.config.model import Config
from openmeter_collector.config.replicas import KubernetesState
from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.engine.election.lease import LeaseElector, LeaseOptions
from openmeter_collector.engine.election.locks import FileElector, PostgresElector
from openmeter_collector.engine.environment import Surroundings
from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.engine.stores.databases import PostgresBackend, RedisBackend
from openmeter_collector.engine.stores.file import FileBackend
from openmeter_collector.engine.stores.kubernetes import KubernetesBackend
from openmeter_collector.engine.stores.shared import Backend, SharedStore
from openmeter_collector.errors import ConfigError
from openmeter_collector.kubernetes.client import KubernetesClient
from openmeter_collector.kubernetes.kubeconfig import find_access

_RELEASE_WITHIN: Final = 5.0
_STATE_TABLE: Final = "openmeter_collector_state"


@dataclass(frozen=True, slots=True)
class LeaderFlags:
    """What the command line and the environment say about leader election; seconds."""

    enabled: bool = False
    namespace: str = ""
    name: str = ""
    identity: str = ""
    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def who(self) -> str:
        """The name of this replica."""
        return self.identity or socket.gethostname()


@asynccontextmanager
async def shared_backend(
    config: Config, flags: LeaderFlags, around: Surroundings
) -> AsyncIterator[Backend | None]:
    """Where the replicas of a config keep positions, to be looked into from outside; None when each
    keeps its own.

    Raises:
        ConfigError: something is missing, or does not fit.
    """
    elected = flags.enabled or config.leader_election.enabled
    async with AsyncExitStack() as stack:
        yield await _backend(config, flags, around, stack, elected=elected)


def shown_leadership(around: Surroundings) -> Callable[[], Mapping[str, object]] | None:
    """What `/ready` says of the election; None when there is none. Standing by is being ready, and so
    is a replica whose election does not get on: what is sent to it is kept all the same.
    """
    leading = around.leadership
    return leading.shown if isinstance(leading, Leading) else None


class Elector(Protocol):
    """Takes part in an election."""

    async def run(self) -> None:
        """Until cancelled."""

    async def release(self) -> None:
        """Let another one lead."""


@asynccontextmanager
async def replicated(
    config: Config, flags: LeaderFlags, surroundings: Surroundings
) -> AsyncIterator[Surroundings]:
    """The surroundings with leader election and a shared store, as far as they are configured.

    Leaving the block gives leadership back.

    Raises:
        ConfigError: something is missing, or does not fit.
    """
    async with AsyncExitStack() as stack:
        leading = None
        if flags.enabled or config.leader_election.enabled:
            log = surroundings.log.bind(part="leader election")
            leading = Leading(flags.who(), surroundings.monotonic, log)
            leading.measure(surroundings.metrics)
            elector = await _elector(config, flags, surroundings, leading, stack)
            await stack.enter_async_context(_taking_part(elector))
        backend = await _backend(config, flags, surroundings, stack, elected=leading is not None)
        store = None if backend is None else SharedStore(backend, leading)
        yield replace(
            surroundings,
            leadership=leading,
            only_on_leader=frozenset(config.leader_election.only_on_leader),
            store=store or surroundings.store,
        )


@asynccontextmanager
async def _taking_part(elector: Elector) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(elector.run(), name="leader-election")
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})
            async with asyncio.timeout(_RELEASE_WITHIN):
                await elector.release()


async def _elector(
    config: Config,
    flags: LeaderFlags,
    around: Surroundings,
    leading: Leading,
    stack: AsyncExitStack,
) -> Elector:
    election = config.leader_election
    if election.file is not None:
        return FileElector(Path(election.file.path), leading, around.sleep)
    if election.postgres is not None:
        return PostgresElector(
            election.postgres.dsn,
            election.postgres.name,
            leading,
            around.monotonic,
            around.sleep,
            float(election.wait),
        )
    for value, option, names in (
        (flags.namespace, "--lease-lock-namespace", "K8S_NAMESPACE or LEASE_LOCK_NAMESPACE"),
        (flags.name, "--lease-lock-name", "K8S_APP_INSTANCE or LEASE_LOCK_NAME"),
    ):
        if not value:
            raise ConfigError(f"leader election: {option} is missing; give it, or set {names}")
    options = LeaseOptions(
        flags.namespace,
        flags.name,
        leading.identity,
        flags.duration,
        flags.renew_deadline,
        flags.retry_period,
    )
    client = await _cluster(KubernetesState(), around, stack)
    clocks = (around.now, around.monotonic)
    return LeaseElector(options, client, leading, clocks, around.sleep, around.random)


async def _backend(
    config: Config,
    flags: LeaderFlags,
    around: Surroundings,
    stack: AsyncExitStack,
    *,
    elected: bool,
) -> Backend | None:
    """Where positions are kept: where the config says, else where the election is."""
    state, election = config.state, config.leader_election
    named = [one for one in (state.kubernetes, state.postgres, state.redis, state.file) if one]
    if len(named) > 1:
        raise ConfigError("state: has more than one place; use one of them")
    if state.file is not None:
        return FileBackend(Path(state.file.path))
    if state.redis is not None:
        redis = RedisBackend(state.redis.url, state.redis.prefix)
        stack.push_async_callback(redis.close)
        return redis
    dsn = state.postgres.dsn if state.postgres else ""
    table = state.postgres.table if state.postgres else _STATE_TABLE
    if not named and elected and election.file is not None:
        return FileBackend(Path(election.file.path + ".state"))
    if not named and elected and election.postgres is not None:
        dsn = election.postgres.dsn
    if dsn:
        postgres = PostgresBackend(dsn, table)
        stack.push_async_callback(postgres.close)
        return postgres
    if state.kubernetes is None and not elected:
        return None
    return await _kubernetes(state.kubernetes or KubernetesState(), flags, around, stack)


async def _kubernetes(
    wanted: KubernetesState, flags: LeaderFlags, around: Surroundings, stack: AsyncExitStack
) -> Backend:
    client = await _cluster(wanted, around, stack)
    namespace = wanted.namespace or flags.namespace or client.namespace
    name = wanted.name or (f"{flags.name}-state" if flags.name else "")
    if not namespace or not name:
        raise ConfigError(
            "state.kubernetes: it is not known which object; set `name` and `namespace`"
        )
    return KubernetesBackend(client, namespace, name, wanted.kind)


async def _cluster(
    wanted: KubernetesState, around: Surroundings, stack: AsyncExitStack
) -> KubernetesClient:
    access = find_access(wanted.kubeconfig, wanted.context)
    http = await stack.enter_async_context(
        open_http_client(tls=access.tls, max_connections=4, proxy=access.proxy)
    )
    return KubernetesClient(http, access, around.now)
