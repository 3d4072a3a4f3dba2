"""The options of leader election, under the names and environment variables that charts set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from openmeter_collector.engine.replicas import LeaderFlags
from openmeter_collector.errors import ConfigError
from openmeter_collector.values.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false", ""})


@dataclass(frozen=True, slots=True)
class _Option:
    name: str
    attribute: str
    variables: tuple[str, ...]
    help: str
    duration: bool = False


_ENABLED: Final = _Option(
    "--leader-election", "enabled", ("LEADER_ELECTION",), "Only one replica fetches."
)
_OPTIONS: Final = (
    _Option(
        "--lease-lock-namespace",
        "namespace",
        ("K8S_NAMESPACE", "LEASE_LOCK_NAMESPACE"),
        "Namespace of the lease.",
    ),
    _Option(
        "--lease-lock-name", "name", ("K8S_APP_INSTANCE", "LEASE_LOCK_NAME"), "Name of the lease."
    ),
    _Option(
        "--lease-lock-identity",
        "identity",
        ("K8S_POD_NAME", "LEASE_LOCK_IDENTITY"),
        "Name of this replica (the host's).",
    ),
    _Option(
        "--lease-duration",
        "duration",
        ("LEASE_DURATION",),
        "How long it lasts (15s).",
        duration=True,
    ),
    _Option(
        "--lease-renew-deadline",
        "renew_deadline",
        ("LEASE_RENEW_DEADLINE",),
        "A leader that could not renew for so long gives up (10s).",
        duration=True,
    ),
    _Option(
        "--lease-retry-period",
        "retry_period",
        ("LEASE_RETRY_PERIOD",),
        "Time between attempts (2s).",
        duration=True,
    ),
    _Option(
        "--lease-health-check-timeout",
        "health_timeout",
        ("LEASE_HEALTH_CHECK_TIMEOUT",),
        "Accepted; a leader that cannot renew gives up by itself.",
        duration=True,
    ),
)


@dataclass(frozen=True, slots=True)
class LeaderArguments:
    """What was said on the command line."""

    given: Mapping[str, Any]

    def flags(self, env: Mapping[str, str]) -> LeaderFlags:
        """With the environment, the defaults for what neither says.

        Raises:
            ConfigError: a duration is none.
        """
        made: dict[str, Any] = {"enabled": self._enabled(env)}
        for one in _OPTIONS:
            said = self.given.get(one.attribute)
            where = one.name
            for variable in one.variables:
                if not said and env.get(variable):
                    said, where = env[variable], variable
            if said and one.attribute != "health_timeout":
                made[one.attribute] = _seconds(said, where) if one.duration else said
        return LeaderFlags(**made)

    def _enabled(self, env: Mapping[str, str]) -> bool:
        if self.given.get("enabled"):
            return True
        text = env.get("LEADER_ELECTION", "").strip().lower()
        if text not in _TRUE | _FALSE:
            raise ConfigError(f"LEADER_ELECTION: {text!r} is neither true nor false")
        return text in _TRUE


def leader_options(command: F) -> F:
    """Give a command the options; it gets them as `leader`."""
    names = [_ENABLED.attribute, *(one.attribute for one in _OPTIONS)]

    @functools.wraps(command)
    def called(**arguments: Any) -> Any:
        given = {name: arguments.pop(f"leader_{name}") for name in names}
        return command(leader=LeaderArguments(given), **arguments)

    made: Any = called
    for one in reversed(_OPTIONS):
        text = f"{one.help} Or {', '.join(one.variables)}."
        made = click.option(one.name, f"leader_{one.attribute}", help=text)(made)
    text = f"{_ENABLED.help} Or LEADER_ELECTION."
    return click.option(_ENABLED.name, "leader_enabled", is_flag=True, help=text)(made)  # type: ignore[no-any-return]


def _seconds(text: str, where: str) -> float:
    try:
        return parse_duration(text) / 1e9
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
