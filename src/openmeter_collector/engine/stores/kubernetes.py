"""Positions in an object of Kubernetes: a Lease's annotations, or a ConfigMap's data.

A Lease needs no rights beyond those of leader election. All positions of a collector are in one object,
which the API server keeps to a size: enough for hundreds of inputs with windows, not for a cursor per
file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

from openmeter_collector.engine.stores.shared import Kept, merged, refuse_older
from openmeter_collector.errors import CollectorError, Retryable
from openmeter_collector.kubernetes.client import Conflict, KubernetesClient, NotFound

_PREFIX: Final = "positions.openmeter.io."
_MOST_BYTES: Final = 200_000
_ATTEMPTS: Final = 5
_APIS: Final = {
    "lease": ("/apis/coordination.k8s.io/v1", "leases", "coordination.k8s.io/v1", "Lease"),
    "config_map": ("/api/v1", "configmaps", "v1", "ConfigMap"),
}


class KubernetesBackend:
    """See `engine.stores.shared.Backend`."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        name: str,
        kind: Literal["lease", "config_map"] = "lease",
    ) -> None:
        root, plural, self._version, self._kind = _APIS[kind]
        self._client = client
        self._namespace = namespace
        self._name = name
        self._collection = f"{root}/namespaces/{namespace}/{plural}"
        self._in_data = kind == "config_map"

    async def read(self, key: str) -> Kept | None:
        found = await self._object()
        return None if found is None else _kept(self._entries(found).get(_name(key)))

    async def all(self) -> dict[str, Kept]:
        found = await self._object()
        entries = {} if found is None else self._entries(found)
        made = {}
        for name, text in entries.items():
            kept = _kept(text) if name.startswith(_PREFIX) else None
            if kept is not None:
                made[text.split(" ", 2)[2]] = kept
        return made

    async def write(self, changes: Mapping[str, Kept]) -> None:
        # Written on top of what was read: another writer makes us read again, and compare again.
        for _ in range(_ATTEMPTS):
            found = await self._object()
            made: dict[str, Any] = found or {
                "apiVersion": self._version,
                "kind": self._kind,
                "metadata": {"name": self._name, "namespace": self._namespace},
            }
            entries = self._entries(made)
            for key, written in changes.items():
                kept = _kept(entries.get(_name(key)))
                refuse_older(key, kept, written)
                entries[_name(key)] = _text(key, merged(kept, written))
            size = sum(len(text) for text in entries.values())
            if size > _MOST_BYTES:
                raise Retryable(
                    f"positions of {size} bytes are too many for an object of Kubernetes; use `state` "
                    "with postgres or redis"
                )
            try:
                if found is None:
                    await self._client.create(self._collection, made)
                else:
                    await self._client.replace(f"{self._collection}/{self._name}", made)
            except Conflict:
                continue
            except Retryable:
                raise
            except CollectorError as error:
                raise Retryable(str(error)) from error
            return
        raise Retryable(f"{self._collection}/{self._name}: others write to it all the time")

    async def _object(self) -> dict[str, Any] | None:
        try:
            return await self._client.get(f"{self._collection}/{self._name}")
        except NotFound:
            return None
        except Retryable:
            raise
        except CollectorError as error:
            raise Retryable(str(error)) from error

    def _entries(self, made: dict[str, Any]) -> dict[str, str]:
        if self._in_data:
            data: dict[str, str] = made.setdefault("data", {})
            return data
        annotations: dict[str, str] = made["metadata"].setdefault("annotations", {})
        return annotations


def _name(key: str) -> str:
    # Keys hold slashes and labels; names of annotations may not.
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()[:40]


def _text(key: str, kept: Kept) -> str:
    value = "-" if kept.value is None else base64.b64encode(kept.value).decode()
    return f"{kept.term} {value} {key}"


def _kept(text: str | None) -> Kept | None:
    if text is None:
        return None
    try:
        term, value, _ = text.split(" ", 2)
        return Kept(int(term), None if value == "-" else base64.b64decode(value, validate=True))
    except ValueError as error:
        raise Retryable("a position kept in Kubernetes is damaged; restore or remove it") from error
