"""The HTTP API of Run:ai, as far as the input asks it: tokens, lists, measurements."""

from __future__ import annotations

import asyncio
import base64
import binascii
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson

from openmeter_collector.api import (
    CollectorError,
    Env,
    HttpClient,
    HttpResponse,
    Overloaded,
    Paused,
    Retryable,
    check_clock,
    raise_for_answer,
    retry_after,
)

_ENDS_EARLY: Final = 10.0
_MOST_ROWS: Final = 1_000_000


class Gone(CollectorError):
    """404: what was asked about is not there any more."""


class RunAi:
    """One tenant. Requests share a token, and a pause when the server asks for one."""

    def __init__(
        self,
        env: Env,
        client: HttpClient,
        url: str,
        app: tuple[str, str],
        *,
        timeout: float,
        retries: int,
        pauses: tuple[float, float],
    ) -> None:
        """`app`: id and secret; `pauses`: the shortest and the longest between attempts."""
        self._env = env
        self._client = client
        self._url = url.rstrip("/")
        self._app = app
        self._timeout = timeout
        self._retries = retries
        self._pauses = pauses
        self._token = ""
        self._token_until = 0.0
        self._fetching = asyncio.Lock()
        self._quiet_until = 0.0

    async def get(
        self, path: str, query: Mapping[str, str], kind: str, until: float = 0.0
    ) -> dict[str, Any]:
        """Ask for something; `kind` is the path with its ids left out, for the metrics; `until` (Unix
        seconds) has to have passed on the server.

        Raises:
            Gone: there is no such thing.
            CollectorError: there is no good answer, in spite of repetitions.
        """
        attempt = 0
        while True:
            try:
                return await self._attempt(path, query, kind, until)
            except Retryable as error:
                if attempt >= self._retries:
                    raise
                asked = error.retry_after if isinstance(error, Overloaded) else None
                shortest, longest = self._pauses
                pause = min(longest, shortest * 2.0**attempt) * (0.5 + self._env.random() / 2)
                attempt += 1
                await self._env.sleep(max(pause, min(asked or 0.0, 60.0)))

    async def _attempt(
        self, path: str, query: Mapping[str, str], kind: str, until: float
    ) -> dict[str, Any]:
        if (wait := self._quiet_until - self._env.monotonic()) > 0:
            await self._env.sleep(wait)
        token = await self._valid_token()
        response = await self._request("GET", path, query, kind, token)
        if response.status == 401:
            # Of many requests that are refused together, one fetches the new token.
            token = await self._valid_token(refused=token)
            response = await self._request("GET", path, query, kind, token)
        if response.status == 404:
            raise Gone(f"GET {self._url}{kind}: answered 404")
        if response.status == 429:
            asked = min(retry_after(response, self._env.now()) or 1.0, 60.0)
            self._quiet_until = max(self._quiet_until, self._env.monotonic() + asked)
        raise_for_answer(f"{self._url}{kind}", response)
        check_clock(f"{self._url}{kind}", response, until)
        return _object(response, f"{self._url}{kind}")

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        kind: str,
        token: str,
        body: bytes | None = None,
    ) -> HttpResponse:
        address = f"{self._url}{path}"
        if query:
            address = f"{address}?{urllib.parse.urlencode(query, safe=',!=:')}"
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        began = self._env.monotonic()
        response = await self._client.request(
            method, address, headers=headers, body=body, timeout=self._timeout
        )
        self._env.metrics.timer(
            "run_ai_http_request_ns",
            "Time of requests to Run:ai.",
            url=kind,
            status_code=str(response.status),
        ).observe((self._env.monotonic() - began) * 1e9)
        return response

    async def _valid_token(self, refused: str = "") -> str:
        async with self._fetching:
            spent = self._token in {"", refused} or self._env.now() >= self._token_until
            if spent:
                self._token = await self._new_token()
                self._token_until = _expiry(self._token)
            return self._token

    async def _new_token(self) -> str:
        kind = "/api/v1/token"
        app_id, secret = self._app
        body = orjson.dumps({"grantType": "app_token", "AppId": app_id, "AppSecret": secret})
        response = await self._request("POST", kind, {}, kind, "", body)
        if response.status in {400, 401, 403}:
            raise Paused(
                f"{self._url}{kind}: gave no token ({response.status}); check app_id and app_secret"
            )
        raise_for_answer(f"{self._url}{kind}", response)
        token = _object(response, f"{self._url}{kind}").get("accessToken")
        if not isinstance(token, str) or not token:
            raise Retryable(f"{self._url}{kind}: the answer has no accessToken")
        return token

    async def pages(
        self, path: str, name: str, query: Mapping[str, str], size: int
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """A list, page by page, each row once."""
        offset = 0
        seen: set[str] = set()
        while offset <= _MOST_ROWS:
            asked = {"limit": str(size), "offset": str(offset), **query}
            answer = await self.get(path, asked, path)
            rows = answer.get(name)
            if not isinstance(rows, list):
                raise Retryable(f"{self._url}{path}: the answer has no {name}")
            # Rows move up when one before them goes away; those that come again are known.
            fresh = [
                one for one in rows if isinstance(one, dict) and str(one.get("id")) not in seen
            ]
            seen.update(str(one.get("id")) for one in fresh)
            if fresh:
                yield fresh
            if not answer.get("next") or not rows:
                return
            # By what was read, not by what was wanted of it: pages would overlap, or never end.
            offset += len(rows)


def _expiry(token: str) -> float:
    """When a JSON Web Token ends, by what it says itself; unverified, it is only about when to ask."""
    try:
        payload = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - _ENDS_EARLY
    except (IndexError, ValueError, KeyError, TypeError, binascii.Error):
        return float("inf")  # a 401 will tell


def _object(response: HttpResponse, where: str) -> dict[str, Any]:
    try:
        made = orjson.loads(response.body)
    except ValueError:
        made = None
    if not isinstance(made, dict):
        raise Retryable(f"{where}: the answer is none of Run:ai; check `url`")
    return made
