"""From files or text to a typed configuration, or to everything that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from openmeter_collector.config import overrides as set_values
from openmeter_collector.config import source_text, tree
from openmeter_collector.config.decode import Decoder
from openmeter_collector.config.lint import InvalidConfig, Problem, in_order
from openmeter_collector.config.model import (
    RESOURCES,
    Config,
    Logger,
    Resources,
    Stream,
    resources_of,
)
from openmeter_collector.config.report import FAULTY, Report
from openmeter_collector.config.source_text import SourceText
from openmeter_collector.config.stable_ids import random_ids
from openmeter_collector.spec.component import fields_of
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import EVERYTHING, Trust
from openmeter_collector.spec.types import Choice, Optional, Scalar

Document = TypeVar("Document", Config, Stream, Resources)
Source = Path | str
"""A `Path` is a file, a string is the text itself."""

_DEFAULTS: Final = {
    "input": "stdin",
    "buffer": "none",
    "output": "stdout",
    "metrics": "prometheus",
    "tracer": "none",
}
_MAPPING: Final = Optional(Scalar("mapping"))
_NOWHERE: Final = tree.Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class Reading(Generic[Document]):
    """What came of reading a configuration.

    Attributes:
        config: the document, or None if it cannot be run.
        problems: everything found, in order of position, from errors to notes.
        secrets: values that must not be shown, from the environment.
        components: kind and name of every component that is written, in order.
    """

    config: Document | None
    problems: tuple[Problem, ...]
    secrets: frozenset[str] = field(repr=False)
    components: tuple[tuple[str, str], ...] = ()

    def or_raise(self) -> Document:
        """The document.

        Raises:
            InvalidConfig: it cannot be run.
        """
        if self.config is None:
            raise InvalidConfig(p for p in self.problems if p.severity == "error")
        return self.config


def load(
    source: Source,
    registry: Registry,
    *,
    env: Mapping[str, str] = os.environ,
    file: str = "",
    overrides: Iterable[str] = (),
    resource_files: Iterable[Path] = (),
    chilled: bool = False,
    trust: Trust | None = None,
) -> Config:
    """Read a configuration to run it.

    Args:
        file: the name of a text, for messages.
        overrides: `path=value`, set after reading.
        resource_files: files with more resources.
        chilled: run in spite of what can be run in spite of.
        trust: what its components may do; that of a file of the operator's when it is left out.

    Raises:
        InvalidConfig: with every fault that was found.
    """
    return read(
        source,
        registry,
        Config,
        env=env,
        file=file,
        overrides=overrides,
        resource_files=resource_files,
        chilled=chilled,
        trust=trust,
    ).or_raise()


def read(
    source: Source,
    registry: Registry,
    document: type[Document],
    *,
    env: Mapping[str, str] = os.environ,
    file: str = "",
    overrides: Iterable[str] = (),
    resource_files: Iterable[Path] = (),
    known_resources: Iterable[tuple[str, str]] = (),
    chilled: bool = False,
    trust: Trust | None = None,
) -> Reading[Document]:
    """Read a document of any kind and say all there is to say about it.

    Args:
        known_resources: kind and label of resources that are there from elsewhere.
        trust: what its components may do; that of a file of the operator's when it is left out.
    """
    reader = _Reader(registry, env, Report(chilled=chilled), trust)
    made = reader.document(source, document, file, overrides)
    more: list[Resources | None] = [
        reader.document(path, Resources, "", ()) for path in resource_files
    ]
    labels = set(known_resources)
    for one in (made, *more):
        if isinstance(one, Config | Resources):
            labels |= set(resources_of(one))
    reader.decoder.check_references(labels)
    problems = in_order(reader.decoder.report.problems, reader.secrets)
    components = tuple(dict.fromkeys(reader.decoder.report.components))
    if made is None or any(problem.severity == "error" for problem in problems):
        return Reading(None, problems, frozenset(reader.secrets), components)
    for resources in more:
        made = _merged(made, resources)
    warnings = in_order(random_ids(made), reader.secrets)
    return Reading(
        with_defaults(made, registry), problems + warnings, frozenset(reader.secrets), components
    )


class _Reader:
    """Reads the files of one configuration."""

    def __init__(
        self, registry: Registry, env: Mapping[str, str], report: Report, trust: Trust | None
    ) -> None:
        self._env = env
        self.decoder = Decoder(registry, report, trust)
        self.secrets: set[str] = set()

    def document(
        self, source: Source, document: type[Document], file: str, overrides: Iterable[str]
    ) -> Document | None:
        try:
            written = source_text.read(source) if isinstance(source, Path) else source
            name = str(source) if isinstance(source, Path) else file
            text = source_text.interpolate(written, self._env, name)
        except InvalidConfig as error:
            self.decoder.report.problems += error.faults
            return None
        self.secrets |= text.secrets
        report = self.decoder.report
        chilled, report.chilled = report.chilled, report.chilled or text.lint_disabled
        try:
            root = parse(text, report)
            if root is not None:
                root = set_values.apply(root, overrides, report)
                made = self.decoder.section(document, root, "root")
                return self._completed(made, root) if isinstance(made, document) else None
        finally:
            report.chilled = chilled
        return None

    def _logger(self, logger: Logger, root: tree.Mapping) -> Logger:
        """What the config leaves open about logs may be said by the environment."""
        written = root.get("logger")
        fields: dict[str, Any] = {}
        for name, variable in (("level", "LOG_LEVEL"), ("format", "LOG_FORMAT")):
            value = self._env.get(variable)
            if not value or (isinstance(written, tree.Mapping) and written.get(name) is not None):
                continue
            kind = fields_of(Logger)[name].type
            options = kind.options if isinstance(kind, Choice) else ()
            meant = next((one for one in options if one.lower() == value.lower()), None)
            if meant is None:
                self._warn(variable, f"is none of {', '.join(options)}; it is ignored")
            else:
                fields[name] = meant
        return replace(logger, **fields)

    def _warn(self, variable: str, text: str) -> None:
        place = tree.Place(f"variable {variable}", 1, 1)
        self.decoder.report(place, "bad_env", f"{variable} {text}", "", severity="warning")

    def _completed(self, made: Document, root: tree.Mapping) -> Document:
        """With what no field says by itself."""
        if not isinstance(made, Config):
            return made
        changed: dict[str, Any] = {"logger": self._logger(made.logger, root)}
        metrics = root.get("metrics")
        written = metrics.get("mapping") if isinstance(metrics, tree.Mapping) else None
        if written is not None:
            mapping = self.decoder.value(_MAPPING, written, "root.metrics.mapping")
            changed["metrics_mapping"] = None if mapping is FAULTY else mapping
        return replace(made, **changed)


def plain_values(text: str, env: Mapping[str, str] | None = None) -> Any:
    """What a text says, as plain Python values; variables are filled in if `env` is given.

    Raises:
        InvalidConfig: it is not YAML, or a variable is not set.
    """
    report = Report()
    source = SourceText("", text, text) if env is None else source_text.interpolate(text, env)
    root = parse(source, report)
    if root is None or report.problems:
        raise InvalidConfig(report.problems)
    return root.value()


def parse(text: SourceText, report: Report) -> tree.Mapping | None:
    """The document as a tree; faults go to `report`."""
    _check_variables(text, report)
    try:
        root = tree.parse(text.text, text.file, text.locate, partial(_ignored, report))
    except tree.BadYaml as bad:
        report(
            bad.place, "bad_yaml", bad.lint or bad.text, "",
            found=bad.text, hint=bad.hint, lint_at=(1, 1),
        )  # fmt: skip
        return None
    if root is None:
        return tree.Mapping({}, tree.Place(text.file, 1, 1))
    if isinstance(root, tree.Mapping):
        return root
    report(
        root.place, "wrong_type", f"expected object value, got {root.tag}", "root",
        hint="write fields such as `input:` and `output:`", lint_at=(1, 1),
    )  # fmt: skip
    return None


def _ignored(report: Report, place: tree.Place) -> None:
    report(
        place, "more_documents", "a second document follows and is not read", "",
        hint="put each stream into a file of its own", severity="warning",
    )  # fmt: skip


def _check_variables(text: SourceText, report: Report) -> None:
    for offset, name in text.missing:
        report(
            tree.Place(text.file, *text.place_of(offset)),
            "missing_env",
            name,
            "",
            found=f"environment variable {name} is not set",
            hint=f"set it, or write a default: ${{{name}:value}}",
            lint_at=(1, 1),
        )
    for offset, fault in text.bad:
        place = tree.Place(text.file, *text.place_of(offset))
        report(place, "bad_env", fault, "", lint_at=(1, 1))


def _merged(document: Document, more: Resources | None) -> Document:
    """The document with more resources; a stream has none of its own."""
    if more is None or isinstance(document, Stream):
        return document
    return replace(document, **_joined(document, more))


def _joined(one: object, other: object) -> dict[str, Any]:
    return {name: [*getattr(one, name), *getattr(other, name)] for name in RESOURCES}


def with_defaults(document: Document, registry: Registry) -> Document:
    """Fill in the components that are there when nothing is said."""
    made: dict[str, Any] = {}
    for kind, name in _DEFAULTS.items():
        if getattr(document, kind, document) is not None or not registry.has(kind, name):
            continue
        entry = tree.Entry(name, _NOWHERE, tree.Mapping({}, _NOWHERE))
        node = Decoder(registry, trust=EVERYTHING).component(
            kind, tree.Mapping({name: entry}, _NOWHERE), f"root.{kind}"
        )
        made[kind] = replace(node, where="")
    return replace(document, **made)
