"""Keeps what is known of pods up to date: a list, then a watch, and again when the watch is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import orjson

from openmeter_collector.api import CollectorError, Env, Retryable
from openmeter_collector.components.inputs.pod_runs import PodRuns
from openmeter_collector.kubernetes.client import Gone, KubernetesClient

_FIRST: Final = 0.5
_LONGEST: Final = 30.0
_PATIENCE: Final = 10.0


class PodWatch:
    """The pods of one list: of the cluster, or of a namespace."""

    def __init__(
        self,
        env: Env,
        client: KubernetesClient,
        path: str,
        params: Mapping[str, str],
        runs: PodRuns,
    ) -> None:
        self._env = env
        self._client = client
        self._path = path
        self._params = dict(params)
        self._runs = runs
        self._namespace = path.split("/")[4] if "/namespaces/" in path else ""
        self._version = ""
        self._watching = False
        self._seen_until = 0
        """Up to when (Unix ms) all is known that happened, while nothing is watched."""
        self._changed = asyncio.Event()
        self._problem = "the list of pods was not read yet"

    async def known_beyond(self, moment: int) -> None:
        """Return when all that happened before a moment is known.

        Raises:
            Retryable: it is not, because the cluster cannot be seen.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                while not (self._watching or self._seen_until >= moment):
                    changed = self._changed
                    await changed.wait()
        except TimeoutError as error:
            raise Retryable(f"pods are not watched: {self._problem}") from error

    async def run(self) -> None:
        """Until cancelled."""
        attempt = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                async for event in self._client.watch(self._path, self._params, self._version):
                    attempt = 0
                    self._take(event.kind, event.object)
                # The server ends each watch after a while; the next one goes on from here.
                self._set(watching=False)
            except Gone as error:
                self._lost(str(error))
            except CollectorError as error:
                self._lost(str(error))
                attempt += 1
                pause = min(_LONGEST, _FIRST * 2.0 ** min(attempt - 1, 10))
                await self._env.sleep(pause * (0.5 + self._env.random() / 2))

    async def _list(self) -> None:
        uids: set[str] = set()
        version = ""
        began = self._now()
        async for page in self._client.pages(self._path, self._params, restart=True):
            now = self._now()
            uids.update(self._runs.seen(orjson.loads(one), now) for one in page.items)
            version = page.version
        if self._seen_until:
            self._runs.only(uids, self._seen_until, self._namespace)
        self._version = version
        self._seen_until = began

    def _take(self, kind: str, content: bytes) -> None:
        if kind == "OPENED":
            self._set(watching=True)
            return
        made = orjson.loads(content)
        metadata = made.get("metadata") or {}
        self._version = str(metadata.get("resourceVersion") or self._version)
        if kind == "DELETED":
            self._runs.deleted(made, self._now())
        elif kind in {"ADDED", "MODIFIED"}:
            self._runs.seen(made, self._now())

    def _lost(self, problem: str) -> None:
        # Listed anew: what a watch would still have to tell cannot be told from what it has told.
        self._version = ""
        self._problem = problem
        if self._watching:
            self._env.log.warning("pods are not watched, trying again", error=problem)
            self._set(watching=False)

    def _set(self, *, watching: bool) -> None:
        self._watching = watching
        if not watching:
            self._seen_until = self._now()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _now(self) -> int:
        return int(self._env.now() * 1000)
