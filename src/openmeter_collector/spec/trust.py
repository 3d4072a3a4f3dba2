"""What a config may do beside moving events, and who may allow it.

Whoever writes a component that can do more says so in its declaration (`dangerous=`). Whoever reads a
config says how far its author is trusted. The two meet in one place, the decoder, so that a
component that is refused is a fault at its line and is never opened. A field that has files read or
written says so in the same way (`file=`), and code in such a config is compiled so that it reads none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.component import ComponentSpec

Power = Literal["programs", "files", "plugins"]

POWERS: Final[dict[Power, str]] = {
    "programs": "starts programs",
    "files": "reads or writes files wherever its config says",
    "plugins": "is code from another package",
}
"""All there are, and what a component that has one does."""

VARIABLE: Final = "OPENMETER_COLLECTOR_ALLOW"
"""The environment variable that allows what `--allow` does, for configs on this machine."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How far the author of a config is trusted.

    Attributes:
        powers: what components in it may do.
        network: what may be done by components that a component in it (`dynamic`) is told of over
            the network.
        how: what an operator does to allow one more; `{}` stands for it.
    """

    powers: frozenset[str]
    network: frozenset[str] = frozenset()
    how: str = field(default="", compare=False)

    def refused(self, spec: ComponentSpec) -> Power | None:
        """What the component could do and this config may not; None when nothing is in the way."""
        return next((one for one in needed(spec) if one not in self.powers), None)


def needed(spec: ComponentSpec) -> tuple[Power, ...]:
    """What a component can do beside moving events."""
    own: tuple[Power, ...] = (spec.dangerous,) if spec.dangerous else ()
    foreign = spec.cls.__module__.partition(".")[0] != __name__.partition(".")[0]
    return (*own, "plugins") if foreign else own


EVERYTHING: Final = Trust(frozenset(POWERS))
"""For what only looks at a config: lint, echo, editors."""


def of_the_operator(*more: str, network: Iterable[str] = ()) -> Trust:
    """For files on this machine: all but starting programs, unless that is allowed.

    Args:
        network: what is allowed to what comes over the network (`--allow-api`).
    """
    how = f"start with --allow {{}}, or set {VARIABLE}={{}}, if you trust who writes this config"
    return Trust(frozenset({"files", "plugins", *more}), frozenset(network), how)


def of_this_machine() -> Trust:
    """For files on this machine when nobody says more: what the environment allows."""
    return of_the_operator(*powers_of([os.environ.get(VARIABLE, "")], VARIABLE))


def of_the_api(*allowed: str) -> Trust:
    """For what comes over the network: nothing but what is allowed."""
    how = "start with --allow-api {} if you trust everybody who reaches the API"
    return Trust(frozenset(allowed), frozenset(allowed), how)


def powers_of(words: Iterable[str], where: str) -> tuple[str, ...]:
    """The powers in words that may hold several with commas between them.

    Args:
        where: what they were given with, for the message.

    Raises:
        ConfigError: a word is none.
    """
    found = [name.strip() for word in words for name in word.split(",") if name.strip()]
    for name in found:
        if name not in POWERS:
            raise ConfigError(
                f"{where}: {name!r} cannot be allowed; use one of {', '.join(POWERS)}"
            )
    return tuple(found)
