"""How we show the API server who we are: tokens that rotate, exec plug-ins, passwords."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from openmeter_collector.errors import Retryable

_PLUGIN_TIMEOUT: Final = 60.0
_MOST_SAID: Final = 300


class Credentials(Protocol):
    """Makes the `Authorization` header."""

    async def header(self, now: float) -> str:
        """The value for a request at `now` (Unix seconds); empty for none.

        Raises:
            Retryable: it cannot be had now; the text says why.
        """

    def forget(self) -> None:
        """A request was answered 401: get a new one for the next."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A header that does not change."""

    value: str = ""

    async def header(self, now: float) -> str:
        del now
        return self.value

    def forget(self) -> None:
        """There is no other one."""


def token(value: str) -> Fixed:
    """A bearer token."""
    return Fixed(f"Bearer {value}")


def password(user: str, secret: str) -> Fixed:
    """A user name and password."""
    return Fixed("Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode())


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file that somebody renews (the kubelet, once an hour); read for each request."""

    path: Path

    async def header(self, now: float) -> str:
        del now
        try:
            return f"Bearer {_read(self.path)}"
        except OSError as error:
            raise Retryable(f"{self.path}: the token cannot be read ({error.strerror})") from error

    def forget(self) -> None:
        """It is read anew anyway."""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


class ExecPlugin:
    """A command that prints an `ExecCredential` (client.authentication.k8s.io v1 and v1beta1)."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        version: str,
        hint: str = "",
        cluster: Mapping[str, Any] | None = None,
    ) -> None:
        """`hint`: what to say when the command is missing; `cluster`: told to it if it asks."""
        self._command = tuple(command)
        self._environment = dict(environment)
        self._version = version
        self._hint = hint
        self._cluster = cluster
        self._asking = asyncio.Lock()
        self._value = ""
        self._until = 0.0

    async def header(self, now: float) -> str:
        async with self._asking:
            if not self._value or now >= self._until:
                await self._ask(now)
            return self._value

    def forget(self) -> None:
        self._value = ""

    async def _ask(self, now: float) -> None:
        name = self._command[0]
        spec: dict[str, Any] = {"interactive": False}
        if self._cluster is not None:
            spec["cluster"] = dict(self._cluster)
        info = {"apiVersion": self._version, "kind": "ExecCredential", "spec": spec}
        environment = os.environ | self._environment
        environment["KUBERNETES_EXEC_INFO"] = orjson.dumps(info).decode()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = f"; {self._hint}" if self._hint else ""
            raise Retryable(f"exec plug-in {name}: {error.strerror}{hint}") from error
        try:
            async with asyncio.timeout(_PLUGIN_TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise Retryable(f"exec plug-in {name}: no answer in {_PLUGIN_TIMEOUT:g}s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = err.decode(errors="replace").strip()[-_MOST_SAID:]
            raise Retryable(f"exec plug-in {name}: ended with {process.returncode}: {said}")
        self._take(out, now)

    def _take(self, out: bytes, now: float) -> None:
        name = self._command[0]
        try:
            status = orjson.loads(out)["status"]
            value = str(status["token"])
            until = status.get("expirationTimestamp")
            self._until = datetime.fromisoformat(until).timestamp() if until else now + 1e9
        except (ValueError, KeyError, TypeError) as error:
            raise Retryable(
                f"exec plug-in {name}: it printed no token; only plug-ins that give tokens are supported"
            ) from error
        self._value = f"Bearer {value}"
