"""Election by a Lease of Kubernetes, with the rules of client-go.

- A candidate takes a lease that has no holder, or that has not been renewed for its whole duration *as
  seen by the candidate's own clock*: times in the lease are written for people, never compared, so
  clocks may differ.
- Each write goes on top of what was read (`resourceVersion`): of two candidates one is refused.
- A holder that could not renew for `renew_deadline`, which is shorter than the lease, leads no more.
- On an orderly stop the lease is given back, so that the next one need not wait for it.

The term is `leaseTransitions` + 1. Unlike client-go it also grows when a holder of the same name comes
back after a restart, for what its former life had under way must not advance anything either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from openmeter_collector.engine.election.leading import Leading
from openmeter_collector.errors import CollectorError, ConfigError
from openmeter_collector.kubernetes.client import Conflict, KubernetesClient, NotFound

_JITTER: Final = 1.2
_MOST_TERMS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """How an election goes; seconds.

    Raises (on creation):
        ConfigError: the times do not fit each other.
    """

    namespace: str
    name: str
    identity: str
    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration > self.renew_deadline:
            raise ConfigError(
                f"leader election: lease-duration ({self.duration:g}s) has to be longer than "
                f"lease-renew-deadline ({self.renew_deadline:g}s)"
            )
        if not self.renew_deadline > _JITTER * self.retry_period > 0:
            raise ConfigError(
                f"leader election: lease-renew-deadline ({self.renew_deadline:g}s) has to be longer "
                f"than {_JITTER:g} times lease-retry-period ({self.retry_period:g}s), which has to be "
                "more than 0"
            )
        if self.duration < 1:
            raise ConfigError("leader election: lease-duration has to be 1s at least")


class LeaseElector:
    """Takes part in an election until it is cancelled."""

    def __init__(
        self,
        options: LeaseOptions,
        client: KubernetesClient,
        leading: Leading,
        clocks: tuple[Callable[[], float], Callable[[], float]],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        """`clocks`: wall clock and monotonic clock."""
        self._options = options
        self._client = client
        self._leading = leading
        self._now, self._monotonic = clocks
        self._sleep = sleep
        self._random = random
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{options.namespace}/leases"
        self._seen: dict[str, Any] = {}
        self._seen_at = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._attempt()
            pause = self._options.retry_period
            if not self._leading.leading:
                self._leading.ended("the lease could not be renewed in time")
                pause *= 1 + self._random() * (_JITTER - 1)
            await self._sleep(pause)

    async def _attempt(self) -> None:
        """One try to take the lease, or to renew it."""
        began = self._monotonic()
        try:
            async with asyncio.timeout(self._options.renew_deadline):
                lease = await self._read()
                if lease is None or not self._is_anothers(lease["spec"]):
                    await self._write(lease, began)
        except Conflict:
            self._leading.problem = ""  # somebody was faster; that is how it goes
        except TimeoutError:
            self._leading.problem = "the API server does not answer in time"
        except CollectorError as error:
            self._leading.problem = str(error)

    async def _read(self) -> dict[str, Any] | None:
        try:
            lease = await self._client.get(f"{self._path}/{self._options.name}")
        except NotFound:
            return None
        lease.setdefault("spec", {})
        if lease["spec"] != self._seen:
            self._seen, self._seen_at = dict(lease["spec"]), self._monotonic()
        self._leading.holder = str(self._seen.get("holderIdentity") or "")
        return lease

    def _is_anothers(self, spec: dict[str, Any]) -> bool:
        """Somebody else holds it and has not been silent for as long as the lease lasts."""
        holder = str(spec.get("holderIdentity") or "")
        if not holder:
            return False
        if holder == self._options.identity:
            return False
        if self._leading.leading:
            self._leading.ended(f"{holder} holds the lease")
        lasts = float(spec.get("leaseDurationSeconds") or self._options.duration)
        self._leading.problem = ""
        return self._monotonic() < self._seen_at + lasts

    async def _write(self, lease: dict[str, Any] | None, began: float) -> None:
        options = self._options
        stamp = _stamp(self._now())
        renewing = self._leading.leading
        known = (lease or {}).get("spec", {})
        before = known.get("leaseTransitions")
        transitions = int(before or 0)
        if not renewing and lease is not None:
            transitions = min(transitions + 1, _MOST_TERMS)
        spec = {
            "holderIdentity": options.identity,
            "leaseDurationSeconds": max(1, round(options.duration)),
            "acquireTime": known.get("acquireTime", stamp) if renewing else stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions,
        }
        if lease is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": options.name, "namespace": options.namespace},
                "spec": spec,
            }
            written = await self._client.create(self._path, body)
        else:
            written = await self._client.replace(
                f"{self._path}/{options.name}", lease | {"spec": {**known, **spec}}
            )
        self._seen, self._seen_at = dict(written.get("spec", spec)), self._monotonic()
        # Counted from before the request: that is when others may have begun to count, too.
        until = began + options.renew_deadline
        if renewing:
            self._leading.renewed(until)
        else:
            self._leading.acquired(transitions + 1, until)

    async def release(self) -> None:
        """Give the lease back, if it is ours."""
        if not self._leading.leading:
            return
        self._leading.ended("stopping")
        try:
            lease = await self._read()
            if lease is None or lease["spec"].get("holderIdentity") != self._options.identity:
                return
            stamp = _stamp(self._now())
            lease["spec"] |= {
                "holderIdentity": "",
                "leaseDurationSeconds": 1,
                "acquireTime": stamp,
                "renewTime": stamp,
            }
            await self._client.replace(f"{self._path}/{self._options.name}", lease)
        except CollectorError as error:
            self._leading.problem = str(error)  # it ends by itself, a little later


def _stamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
