"""Asking a running collector's live page, from this machine or another."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
import orjson

from openmeter_collector.engine.http_client import open_http_client
from openmeter_collector.errors import CollectorError, ConfigError

F = TypeVar("F", bound=Callable[..., Any])

PASSWORD: Final = "OPENMETER_COLLECTOR_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN: Final = "OPENMETER_COLLECTOR_TOKEN"  # noqa: S105 - the same


user_option: Callable[[F], F] = click.option(
    "--user",
    help=f"Name for basic_auth; the password is taken from {PASSWORD}. Without it a bearer token is "
    f"taken from {TOKEN}, if that is set.",
)


def client_options(command: F) -> F:
    """Give a command the options that say which collector is meant."""
    for option in (
        user_option,
        click.option(
            "--url",
            default="http://127.0.0.1:4195",
            show_default=True,
            help="Address of the collector's HTTP service.",
        ),
    ):
        command = option(command)
    return command


def credentials(user: str | None) -> dict[str, str]:
    """The headers by which the service knows us."""
    if user is not None:
        pair = f"{user}:{os.environ.get(PASSWORD, '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


async def asked(url: str, user: str | None, path: str) -> Any:
    """What the page at `path` answers.

    Raises:
        ConfigError: it refuses us, or is no collector.
        Retryable: nobody answers.
    """
    headers = {"Accept": "application/json", **credentials(user)}
    async with open_http_client(
        tls=None, max_connections=1, max_response_bytes=16 << 20, proxy=None
    ) as client:
        answer = await client.request("GET", url.rstrip("/") + path, headers=headers, timeout=10.0)
    if answer.status == 401:
        raise ConfigError(
            f"{url}: asks for a password; give --user and set {PASSWORD}, or set {TOKEN}"
            if user is None
            else f"{url}: refuses this name and password; check --user and {PASSWORD}"
        )
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise ConfigError(
            f"{url}: answered {answer.status} and no JSON; is it a collector with this page?"
        ) from error
    if answer.status != 200:
        raise CollectorError(f"{url}: {value.get('error', answer.status)}")
    return value
