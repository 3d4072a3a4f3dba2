"""When each container of each pod was running, from what the API tells of pods. Pure: no clock, no network.

A run is from `startedAt` to `finishedAt` of a container's state, by the node's clock, in whole seconds.
Times that nobody wrote down are taken so that nothing is counted which is not known to have run: a run
that ended while we could not see it ends when it was last seen; such a run is marked as estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

_STATUSES: Final = {
    "containerStatuses": "container",
    "initContainerStatuses": "init",
    "ephemeralContainerStatuses": "ephemeral",
}
_KEPT: Final = (
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
)
_OVER: Final = frozenset({"Succeeded", "Failed"})


@dataclass(slots=True)
class Run:
    """One life of a container; Unix milliseconds."""

    start: int
    end: int | None = None
    estimated: bool = False

    def within(self, start: int, end: int) -> tuple[int, int] | None:
        """The part of it between two moments, None if there is none."""
        low = max(self.start, start)
        high = end if self.end is None else min(self.end, end)
        return (low, high) if low < high else None


@dataclass(slots=True)
class Container:
    """A container of a pod and its runs, in order of their start."""

    kind: str
    runs: list[Run] = field(default_factory=list)
    restarts: int = 0

    def close(self, at: int) -> None:
        """Nobody wrote down when it ended; no later than at that moment."""
        for run in self.runs:
            if run.end is None:
                run.end, run.estimated = max(at, run.start), True


@dataclass(slots=True)
class Pod:
    """What is remembered of a pod.

    Attributes:
        about: its metadata and spec as far as they are told on, JSON.
        gone: it was deleted.
    """

    about: bytes
    namespace: str = ""
    containers: dict[str, Container] = field(default_factory=dict)
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A container's share of a window."""

    name: str
    kind: str
    milliseconds: int
    restarts: int
    estimated: bool
    spans: tuple[tuple[int, int], ...]


class PodRuns:
    """All pods that were running lately."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def seen(self, pod: Mapping[str, Any], now: int) -> str:
        """A pod is there, in this state; returns its uid."""
        metadata, status = pod["metadata"], pod.get("status") or {}
        uid = str(metadata["uid"])
        known = self._pods.get(uid)
        if known is None:
            known = self._pods[uid] = Pod(b"", str(metadata.get("namespace", "")))
        known.about = _about(pod)
        known.gone = False
        spec = pod.get("spec") or {}
        sidecars = {
            str(one.get("name"))
            for one in spec.get("initContainers") or ()
            if one.get("restartPolicy") == "Always"
        }
        for listed, kind in _STATUSES.items():
            for one in status.get(listed) or ():
                name = str(one["name"])
                container = known.containers.get(name)
                if container is None:
                    real = "sidecar" if kind == "init" and name in sidecars else kind
                    container = known.containers[name] = Container(real)
                _take(container, one, now)
        if status.get("phase") in _OVER:
            self._close(known, now)
        return uid

    def deleted(self, pod: Mapping[str, Any], now: int) -> None:
        """A pod is gone; `pod` is its last state."""
        uid = self.seen(pod, now)
        known = self._pods[uid]
        known.gone = True
        # A pod that is removed before its containers are told to have ended: they end with it, and
        # not after the time it was given to end.
        deadline = _moment(pod["metadata"].get("deletionTimestamp"))
        self._close(known, now if deadline is None else min(now, deadline))

    def only(self, uids: set[str], seen_until: int, namespace: str = "") -> None:
        """A list, of a namespace or of all, has these pods: all others went away unseen, after
        `seen_until`.
        """
        for uid, known in self._pods.items():
            listed = namespace in {"", known.namespace}
            if listed and uid not in uids and not known.gone:
                known.gone = True
                self._close(known, seen_until)

    def forget(self, before: int) -> None:
        """Nobody will ask about the time before a moment."""
        for uid, known in list(self._pods.items()):
            for container in known.containers.values():
                container.runs = [
                    one for one in container.runs if one.end is None or one.end > before
                ]
            if known.gone and not any(one.runs for one in known.containers.values()):
                del self._pods[uid]

    def usage(self, start: int, end: int) -> Iterator[tuple[bytes, list[Part]]]:
        """What ran between two moments: pods, and their containers' parts."""
        for known in self._pods.values():
            parts = [
                part
                for name, container in known.containers.items()
                if (part := _part(name, container, start, end)) is not None
            ]
            if parts:
                yield known.about, parts

    def _close(self, known: Pod, at: int) -> None:
        for container in known.containers.values():
            container.close(at)


def _take(container: Container, status: Mapping[str, Any], now: int) -> None:
    """What a container's status says of its present and its former life."""
    container.restarts = int(status.get("restartCount") or 0)
    present = status.get("state") or {}
    for state in (status.get("lastState") or {}, present):
        ended, running = state.get("terminated"), state.get("running")
        about = ended or running
        start = _moment(about.get("startedAt")) if about else None
        if start is None or start <= 0:
            continue  # it never started
        end = _moment(ended.get("finishedAt")) if ended else None
        _put(container, start, end)
    if "running" not in present:
        container.close(now)


def _put(container: Container, start: int, end: int | None) -> None:
    for run in container.runs:
        if run.start == start:
            if end is not None and (run.end is None or run.estimated):
                run.end, run.estimated = max(end, start), False
            return
    # A container lives once at a time: whatever was open has ended when the next one begins.
    for run in container.runs:
        if run.end is None and run.start < start:
            run.end, run.estimated = start, True
    container.runs.append(Run(start, None if end is None else max(end, start)))
    container.runs.sort(key=lambda one: one.start)


def _part(name: str, container: Container, start: int, end: int) -> Part | None:
    spans = []
    estimated = False
    for run in container.runs:
        span = run.within(start, end)
        if span is not None:
            spans.append(span)
            estimated = estimated or (run.estimated and run.end is not None and run.end <= end)
    if not spans:
        return None
    return Part(name, container.kind, length_of(spans), container.restarts, estimated, tuple(spans))


def length_of(spans: list[tuple[int, int]]) -> int:
    """Milliseconds covered by at least one of them."""
    total, upto = 0, 0
    for low, high in sorted(spans):
        total += max(0, high - max(low, upto))
        upto = max(upto, high)
    return total


def _about(pod: Mapping[str, Any]) -> bytes:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    containers = [
        {
            "name": one.get("name"),
            "image": one.get("image"),
            "resources": one.get("resources") or {},
        }
        for listed in ("containers", "initContainers", "ephemeralContainers")
        for one in spec.get(listed) or ()
    ]
    claims = [
        one["persistentVolumeClaim"]["claimName"]
        for one in spec.get("volumes") or ()
        if one.get("persistentVolumeClaim")
    ]
    status = pod.get("status") or {}
    return orjson.dumps(
        {
            "metadata": {name: metadata[name] for name in _KEPT if name in metadata},
            "node": spec.get("nodeName", ""),
            "priority_class": spec.get("priorityClassName", ""),
            "phase": status.get("phase", ""),
            "qos_class": status.get("qosClass", ""),
            "containers": containers,
            "claims": claims,
        }
    )


def _moment(text: Any) -> int | None:
    if not text:
        return None
    return round(datetime.fromisoformat(str(text)).timestamp() * 1000)
