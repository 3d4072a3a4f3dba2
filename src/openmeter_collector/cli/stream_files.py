"""The files of streams: which stream each defines, and reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmeter_collector.cli.files import expand
from openmeter_collector.cli.options import Given
from openmeter_collector.component.node import Node
from openmeter_collector.config import (
    Config,
    InvalidConfig,
    Problem,
    Reading,
    Resources,
    Stream,
    read,
    resources_of,
)
from openmeter_collector.config.emit import to_yaml
from openmeter_collector.config.load import plain_values
from openmeter_collector.config.render import render
from openmeter_collector.config.source_text import read as read_text
from openmeter_collector.config.unit_tests import SUFFIX
from openmeter_collector.errors import ConfigError
from openmeter_collector.server.streams_api import Definitions


@dataclass(frozen=True, slots=True)
class Found:
    """The streams that are to run, the plain values they were read from, and what reading found."""

    streams: Mapping[str, Stream]
    sources: dict[str, Any]
    problems: tuple[Problem, ...]


class Library:
    """Reads configs as the command line said, with the resources that there are."""

    def __init__(self, how: Given, shared: Config, secrets: set[str]) -> None:
        """Take what all streams share.

        Args:
            secrets: gets what must not be shown of the configs that are read.
        """
        self._how = how
        self._registry = how.registry()
        self.known = set(resources_of(shared))
        self.secrets = secrets

    def reading(self, source: Path | str, *, chilled: bool = False) -> Reading[Stream]:
        """A stream's config: from a file of the operator's, or a text that came over the network."""
        found = read(
            source,
            self._registry,
            Stream,
            env=self._how.env,
            known_resources=self.known,
            chilled=chilled or self._how.chilled,
            trust=self._how.trust if isinstance(source, Path) else self._how.api_trust,
        )
        self.secrets |= found.secrets
        return found

    def values(self, text: str) -> Any:
        """The plain values of a text, variables filled in."""
        return plain_values(text, self._how.env)

    def streams(self, files: Mapping[str, Path]) -> Found:
        """Read all streams.

        Raises:
            InvalidConfig: with the faults of all of them.
        """
        problems: list[Problem] = []
        made: dict[str, Stream] = {}
        sources: dict[str, Any] = {}
        for name, path in files.items():
            reading = self.reading(path)
            problems += reading.problems
            if reading.config is not None:
                made[name] = reading.config
                sources[name] = self._source(path)
        if len(made) < len(files):
            raise InvalidConfig(problem for problem in problems if problem.severity == "error")
        return Found(made, sources, tuple(problems))

    def _source(self, path: Path) -> Any:
        try:
            return self.values(read_text(path))
        except InvalidConfig:  # run in spite of faults: it can be replaced, not patched
            return None

    def definitions(self) -> Definitions:
        """What the API reads and shows configs with."""
        return Definitions(self.values, self._stream, self._resource, self._shown)

    def _shown(self, stream: Stream) -> Any:
        return plain_values(render(stream, self.secrets))

    def _stream(self, text: str, chilled: bool) -> Stream:
        return self.reading(text, chilled=chilled).or_raise()

    def _resource(self, kind: str, label: str, text: str, chilled: bool) -> Node:
        values = self.values(text)
        if not isinstance(values, dict):
            raise ConfigError("a resource's config is an object")
        wrapped = to_yaml({f"{kind}_resources": [{**values, "label": label}]})
        made = read(
            wrapped, self._registry, Resources, env={}, known_resources=self.known,
            chilled=chilled or self._how.chilled, trust=self._how.api_trust,
        ).or_raise()  # fmt: skip
        self.known.add((kind, label))
        found: Node = getattr(made, f"{kind}_resources")[0]
        return found


def stream_files(paths: Sequence[str]) -> dict[str, Path]:
    """Names of streams and their files. A stream is called as its file is, without the ending.

    Raises:
        ConfigError: two streams have the same name.
    """
    named: dict[str, Path] = {}
    for given_path in paths:
        folder = Path(given_path)
        for file in expand([given_path]):
            if file.stem.endswith(SUFFIX):  # unit tests of the stream beside it
                continue
            below = file.relative_to(folder) if folder.is_dir() else Path(file.name)
            name = "_".join(below.with_suffix("").parts)
            other = named.setdefault(name, file)
            if other != file:
                raise ConfigError(
                    f"{file}: a stream {name!r} is defined in {other} already; rename one file"
                )
    return named
