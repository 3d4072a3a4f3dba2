"""The Redis server that several components talk to: the fields that name it, and a client for it."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from openmeter_collector.component.env import Env
from openmeter_collector.errors import ConfigError, Retryable, install_extra
from openmeter_collector.spec.client_tls import ClientTls
from openmeter_collector.spec.component import field, section
from openmeter_collector.values.units import Duration

T = TypeVar("T")
_SCHEMES = ("redis", "rediss", "tcp")


def _address_problem(text: str) -> str | None:
    for one in text.split(","):
        try:
            parts = urlsplit(one.strip())
            _ = parts.port
        except ValueError:
            return "not an address; write redis://host:6379"
        if parts.scheme not in _SCHEMES:
            return "not the address of a Redis server; write redis://host:6379 or rediss:// for TLS"
        if not _is_database(parts.path):
            return "the path of a Redis address is the number of a database, such as /1"
    return None


def _is_database(path: str) -> bool:
    number = path.removeprefix("/")
    return not number or (number.isdecimal() and len(number) < 10)


@section
class RedisServer:
    """Where Redis is. A class of fields becomes a component by inheriting it."""

    url: str = field(
        doc="Address of the server; user, password and number of the database may be in it. For a "
        "cluster or sentinels several, with commas between them.",
        examples=[
            "redis://localhost:6379",
            "redis://user:password@redis:6379/1",
            "redis://one:26379,redis://two:26379",
        ],
        lint=_address_problem,
    )
    kind: Literal["simple", "cluster", "failover"] = field(
        default="simple",
        advanced=True,
        doc="How the server is found.",
        choices={
            "simple": "It is at the address.",
            "cluster": "The addresses are some of a cluster's nodes.",
            "failover": "The addresses are those of sentinels, which know the master.",
        },
    )
    master: str = field(
        default="", advanced=True, doc="Name of the master, with `failover`.", examples=["mymaster"]
    )
    client_name: str = field(
        default="openmeter-collector",
        advanced=True,
        doc="What this client is called in the server's list of clients.",
    )
    tls: ClientTls = field(default_factory=ClientTls, advanced=True, doc="TLS settings.")


@section
class RedisRetries:
    """How often an operation is tried before it has failed."""

    initial_interval: Duration = field(default=Duration("500ms"), doc="The first pause.")
    max_interval: Duration = field(default=Duration("1s"), doc="The longest pause.")
    max_elapsed_time: Duration = field(
        default=Duration("5s"), doc="Time after which it has failed; 0s is no limit."
    )


class RedisClient:
    """A client, whatever the server is made of. Use `redis_client` to open one.

    Attributes:
        commands: the client of the library `redis`, for its commands.
    """

    def __init__(self, commands: Any, failures: tuple[type[Exception], ...], where: str) -> None:
        self.commands = commands
        self._failures = failures
        self._where = where

    async def run(self, call: Awaitable[T]) -> T:
        """Wait for a command.

        Raises:
            Retryable: no answer, or an error in answer.
        """
        try:
            return await call
        except self._failures as error:
            raise Retryable(f"{self._where}: redis: {_reason(error)}") from error


@asynccontextmanager
async def redis_client(config: RedisServer, env: Env) -> AsyncIterator[RedisClient]:
    """Open a client. Nothing is sent before the first command.

    Raises:
        ConfigError: the library is not installed, or the fields contradict each other.
    """
    where = f"{env.node.path}.{env.node.name}"
    if config.kind == "failover" and not config.master:
        raise ConfigError(f"{where}.master: empty; name the master that the sentinels watch")
    try:
        library = importlib.import_module("redis.asyncio")
        errors = importlib.import_module("redis.exceptions")
    except ImportError:
        raise ConfigError(
            f"{where}: the library for Redis is not installed; run: {install_extra('redis')}"
        ) from None
    commands, close = _commands(library, config, where)
    try:
        yield RedisClient(commands, (errors.RedisError, OSError, TimeoutError), where)
    finally:
        await close()


def _commands(
    library: Any, config: RedisServer, where: str
) -> tuple[Any, Callable[[], Awaitable[None]]]:
    addresses = [urlsplit(one.strip()) for one in config.url.split(",")]
    hosts = [(one.hostname or "localhost", one.port or 6379) for one in addresses]
    last = addresses[-1]
    tls = config.tls.enabled or last.scheme == "rediss"
    options: dict[str, Any] = {
        "username": unquote(last.username) if last.username else None,
        "password": unquote(last.password) if last.password else None,
        "client_name": config.client_name or None,
        # One pause-and-repeat of our own instead of the library's, which knows no end of time.
        "retry": library.retry.Retry(importlib.import_module("redis.backoff").NoBackoff(), 0),
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        **(_tls_options(config.tls, where) if tls else {}),
    }
    if config.kind == "cluster":
        nodes = [library.cluster.ClusterNode(host, port) for host, port in hosts]
        del options["retry"]
        cluster = library.RedisCluster(startup_nodes=nodes, **options)
        return cluster, cluster.aclose
    options["db"] = int(last.path.removeprefix("/") or 0)
    if config.kind == "failover":
        return _by_sentinels(library, config.master, hosts, options)
    host, port = hosts[0]
    client = library.Redis(host=host, port=port, **options)
    return client, client.aclose


def _by_sentinels(
    library: Any, master: str, hosts: list[tuple[str, int]], options: dict[str, Any]
) -> tuple[Any, Callable[[], Awaitable[None]]]:
    about_sentinels = {
        name: value for name, value in options.items() if name.startswith(("ssl", "socket"))
    }
    sentinel = library.Sentinel(hosts, sentinel_kwargs=about_sentinels)
    client = sentinel.master_for(master, **options)

    async def close() -> None:
        await client.aclose()
        for one in sentinel.sentinels:
            await one.aclose()

    return client, close


def _tls_options(tls: ClientTls, where: str) -> dict[str, Any]:
    tls.context(f"{where}.tls")  # finds fault with the files, in our words
    options: dict[str, Any] = {"ssl": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
    if not tls.enabled:
        return options
    options["ssl_check_hostname"] = not tls.skip_cert_verify
    options["ssl_cert_reqs"] = "none" if tls.skip_cert_verify else "required"
    options["ssl_ca_certs"] = tls.root_cas_file or None
    options["ssl_ca_data"] = tls.root_cas or None
    if tls.client_certs:
        shown = tls.client_certs[0]
        options["ssl_certfile"] = shown.cert_file
        options["ssl_keyfile"] = shown.key_file or shown.cert_file
        options["ssl_password"] = shown.password or None
    return options


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
