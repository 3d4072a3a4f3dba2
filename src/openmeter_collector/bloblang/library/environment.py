"""Functions of the machine the collector runs on, and Kubernetes quantities."""

from __future__ import annotations

import socket
from typing import Any

from openmeter_collector.bloblang.definition import Case, function
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.services import Services
from openmeter_collector.values.kinds import Int64, Value
from openmeter_collector.values.quantity import parse_quantity


@function(
    "environment",
    prepared=True,
    services=True,
    cases=[Case('root.a = env("NO_SUCH_VARIABLE_HERE")', "{}", '{"a":null}')],
    params={
        "name": "The name of the variable.",
        "no_cache": "Look it up for every message, not once.",
    },
)
def env(services: Services, name: str, no_cache: bool = False) -> Any:
    """An environment variable, null if it is not set."""
    if no_cache:
        return lambda: services.env.get(name)
    value = services.env.get(name)
    return lambda: value


@function(
    "environment",
    prepared=True,
    services=True,
    params={"path": "The path of the file.", "no_cache": "Read it for every message, not once."},
)
def file(services: Services, path: str, no_cache: bool = False) -> Any:
    """The content of a file as bytes."""
    if no_cache:
        return lambda: services.content(path)
    content = services.content(path)
    return lambda: content


@function(
    "environment",
    prepared=True,
    services=True,
    params={"path": "The path of the file.", "no_cache": "Read it for every message, not once."},
)
def file_rel(services: Services, path: str, no_cache: bool = False) -> Any:
    """The content of a file as bytes, its path relative to the folder of the mapping's own file."""
    here = services.here
    if no_cache:
        return lambda: services.content(path, here)
    content = services.content(path, here)
    return lambda: content


@function("environment", cases=[Case("root = hostname().length() > 0", "", "true")])
def hostname() -> str:
    """The name of this machine."""
    return socket.gethostname()


@function(
    "kubernetes",
    cases=[
        Case('root = resource_quantity("100m")', "", "0.100"),
        Case('root = resource_quantity("1.5Gi")', "", "1610612736.000000000"),
        Case("root = resource_quantity(this.memory).number(0)", "{}", "0"),
    ],
    params={"value": "The quantity, such as `500m` or `64Mi`."},
)
def resource_quantity(value: str) -> Value:
    """A Kubernetes quantity as a decimal text; empty text is the number 0."""
    if not value:
        return Int64(0)
    try:
        return parse_quantity(value)
    except ValueError as error:
        raise Fail(str(error)) from None


ENTRIES = (env, file, file_rel, hostname, resource_quantity)
