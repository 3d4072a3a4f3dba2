"""One of several worker processes of `run --workers`: which part of the config is its own.

Worker 0 is what a single process would be: the config's own journal and service address, all inputs.
The others have files and an address of their own, and only inputs that share a port. A worker whose
number is beyond the count is what a larger count left behind: it only delivers its journal.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from openmeter_collector.cli.journal import sqlite_path
from openmeter_collector.cli.roll import numbered
from openmeter_collector.component.env import ListenOptions
from openmeter_collector.component.node import Node
from openmeter_collector.config import Config
from openmeter_collector.config.replicas import LeaderElection
from openmeter_collector.engine.environment import Listen, in_every_worker
from openmeter_collector.engine.replicas import LeaderFlags
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.listener import listen
from openmeter_collector.telemetry.logs import Log

CANNOT_START: Final = 78
"""Exit code: the config cannot be opened as it is, or a journal is in use (EX_CONFIG)."""
SOMETHING_LEFT: Final = 75
"""Exit code of a worker that only drains: its journal still holds something (EX_TEMPFAIL)."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of how many.

    Attributes:
        life: descriptor of a pipe that ends when the process that started this one is gone; -1 when
            this is the only one.
    """

    index: int
    count: int
    life: int = -1

    @classmethod
    def of(cls, text: str, count: int) -> Worker:
        """From what the parent process passed: `INDEX:DESCRIPTOR`.

        Raises:
            ConfigError: it is something else, as when a person gave it.
        """
        index, _, life = text.partition(":")
        if not (index.isdigit() and life.isdigit()):
            raise ConfigError("--worker is given by `run --workers N` itself; use that")
        return cls(int(index), count, int(life))

    @property
    def alone(self) -> bool:
        """No other process belongs to it."""
        return self.life < 0

    @property
    def drains_only(self) -> bool:
        """It takes nothing, and ends when its journal is empty."""
        return self.index >= self.count

    def own(self, config: Config) -> Config:
        """The config with this worker's own files and address.

        Raises:
            ConfigError: the service has no port to count from.
        """
        if self.index == 0:
            return config
        changed: dict[str, Any] = {"http": self._http(config), "leader_election": LeaderElection()}
        path = sqlite_path(config.buffer)
        if path is not None:
            assert config.buffer is not None
            own: Any = config.buffer.config
            changed["buffer"] = replace(
                config.buffer, config=replace(own, path=str(numbered(path, self.index)))
            )
        file = config.logger.file
        if file.path:
            own_file = replace(file, path=str(numbered(Path(file.path), self.index)))
            changed["logger"] = replace(config.logger, file=own_file)
        return replace(config, **changed)

    def _http(self, config: Config) -> Any:
        if self.drains_only or not config.http.enabled:
            return replace(config.http, enabled=False)
        host, _, port = config.http.address.rpartition(":")
        if not port.isdigit():
            return config.http  # the listener says what is wrong with it
        number = int(port) + self.index if int(port) else 0
        return replace(config.http, address=f"{host}:{number}")

    def flags(self, leader: LeaderFlags) -> LeaderFlags:
        """Scheduled inputs are in worker 0 only, and so is the election."""
        return leader if self.index == 0 else replace(leader, enabled=False)

    def leaves_out(self, config: Config) -> Callable[[Node], str]:
        """Why an input does not run here; empty when it does."""
        on_leader = config.leader_election.only_on_leader

        def why(node: Node) -> str:
            if self.drains_only:
                return "there are fewer workers now, this one only delivers"
            if not self.index:
                return ""
            if in_every_worker(node) and node.name not in on_leader and node.label not in on_leader:
                return ""
            return "it runs in worker 0 only"

        return why

    def listen(self) -> Listen:
        """The listener, with a port that workers share."""

        def shared(app: Any, options: ListenOptions) -> Any:
            if options.address.endswith(":0"):
                raise ConfigError(
                    f"address {options.address!r}: workers cannot share port 0; name a port"
                )
            return listen(app, replace(options, reuse_port=True))

        return listen if self.count == 1 else shared

    def end_with_parent(self, stop: asyncio.Event, log: Log) -> None:
        """Stop in order when the process that started this one has ended, however it did."""
        os.set_inheritable(self.life, False)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self.life)
            log.warning("stopping, the process that started this worker is gone")
            stop.set()

        loop.add_reader(self.life, ended)
