"""Unit tests in configs: which there are, and the processors that each of them is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openmeter_collector.component.node import Node
from openmeter_collector.config import pointers, source_text
from openmeter_collector.config.decode import Decoder
from openmeter_collector.config.lint import InvalidConfig
from openmeter_collector.config.load import parse
from openmeter_collector.config.model import Resources, UnitTest, resources_of
from openmeter_collector.config.report import FAULTY, Report
from openmeter_collector.config.tree import Entry, Sequence, Tree
from openmeter_collector.config.tree import Mapping as TreeMapping
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec import types as t
from openmeter_collector.spec.registry import Registry
from openmeter_collector.spec.trust import Trust

SUFFIX: Final = "_benthos_test"
_PROCESSORS: Final = t.ListOf(t.Child("processor"))
_RESOURCES: Final = ("cache_resources", "rate_limit_resources", "processor_resources")


class BadTarget(ConfigError):
    """What a test is about cannot be found or made."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A config and the file that holds its tests, which is often the config itself."""

    target: Path
    file: Path


@dataclass(frozen=True, slots=True)
class Case:
    """One test. `index` is its place in the file, `line` where it begins."""

    index: int
    line: int
    test: UnitTest


@dataclass(frozen=True, slots=True)
class Subject:
    """What a test runs: processors, and the resources that they may use."""

    processors: tuple[Node, ...]
    resources: Resources


def definition_of(path: Path) -> Definition:
    """The tests that belong to a file: those beside it win over those inside."""
    if path.stem.endswith(SUFFIX):
        target = path.with_name(path.stem.removesuffix(SUFFIX) + path.suffix)
        return Definition(target, path)
    beside = path.with_name(path.stem + SUFFIX + path.suffix)
    return Definition(path, beside if beside.is_file() else path)


def read_cases(definition: Definition, registry: Registry, env: Mapping[str, str]) -> list[Case]:
    """All tests of a file.

    Raises:
        InvalidConfig: the file cannot be read, or its tests are not written as tests are.
    """
    report = Report(chilled=True)
    root = _document(definition.file, env, report)
    found = root.get("tests")
    if found is None:
        return []
    decoder = Decoder(registry, report)
    tests = decoder.value(t.ListOf(t.SectionOf(UnitTest)), found, "root.tests")
    if tests is FAULTY or not isinstance(found, Sequence):
        raise InvalidConfig(p for p in report.problems if p.severity == "error")
    return [
        Case(index, item.place.line, test)
        for index, (item, test) in enumerate(zip(found.items, tests, strict=True))
    ]


def subject_of(
    definition: Definition,
    case: Case,
    registry: Registry,
    env: Mapping[str, str],
    resource_files: Iterable[Path] = (),
    trust: Trust | None = None,
) -> Subject:
    """What a test is about, with what it mocks in place.

    Args:
        env: the environment, that of the test included.
        trust: what its components may do; that of a file of the operator's when it is left out.

    Raises:
        BadTarget: it cannot be found, or cannot be made.
        InvalidConfig: a file cannot be read.
    """
    report = Report(chilled=True)
    file, _, pointer = case.test.target_processors.rpartition("#")
    path = definition.file.parent / file if file else definition.target
    named = case.test.target_processors
    try:
        root = _mocked(_document(path, env, report), definition, case, env)
        place = _place_of(root, pointer or ("" if file else named))
    except pointers.NoSuchPlace as error:
        raise BadTarget(f"failed to initialise processors '{named}': {error}") from None
    decoder = Decoder(registry, report, trust)
    resources = _resources(decoder, root)
    for other in resource_files:
        resources += _resources(decoder, _document(other, env, report))
    target = pointers.at(root, place)
    wrapped = target if isinstance(target, Sequence) else Sequence((target,), target.place)
    processors = decoder.value(_PROCESSORS, wrapped, ".".join(["root", *place]))
    listed: dict[str, Any] = {
        name: [node for at, node in resources if at == name] for name in _RESOURCES
    }
    known = Resources(**listed)
    decoder.check_references(set(resources_of(known)))
    errors = [p.friendly() for p in report.problems if p.severity == "error"]
    if errors or processors is FAULTY:
        raise BadTarget(f"failed to initialise processors '{named}': {'; '.join(errors)}")
    return Subject(tuple(processors), known)


def _document(path: Path, env: Mapping[str, str], report: Report) -> TreeMapping:
    text = source_text.interpolate(source_text.read(path), env, str(path))
    root = parse(text, report)
    if root is None:
        raise InvalidConfig(p for p in report.problems if p.severity == "error")
    return root


def _place_of(root: Tree, target: str) -> list[str]:
    if target.startswith("/") or not target:
        place = pointers.parts_of(target)
        pointers.at(root, place)
        return place
    found = pointers.labelled(_without_tests(root), target)
    if found is None:
        raise pointers.NoSuchPlace(
            f"target for label '{target}' failed as the label was not found in the test target "
            "file, it is not currently possible to target resources imported separate to the "
            "test file"
        )
    return found


def _without_tests(root: Tree) -> Tree:
    if not isinstance(root, TreeMapping):
        return root
    kept = {key: entry for key, entry in root.entries.items() if key != "tests"}
    return TreeMapping(kept, root.place)


def _mocked(root: Tree, definition: Definition, case: Case, env: Mapping[str, str]) -> Tree:
    """The document with the test's mocks in it: those by pointer first, then those by label."""
    mocks = _mocks(definition, case, env)
    by_pointer = [one for one in mocks.values() if one.key.startswith("/")]
    by_label = [one for one in mocks.values() if not one.key.startswith("/")]
    for mock in by_pointer:
        parts = pointers.parts_of(mock.key)
        old = None if parts[-1:] == ["-"] else pointers.at(root, parts)
        root = pointers.replaced(root, parts, _relabelled(mock.value, old))
    for mock in by_label:
        found = pointers.labelled(_without_tests(root), mock.key)
        if found is None:
            raise pointers.NoSuchPlace(
                f"mock for label '{mock.key}' could not be applied as the label was not found in "
                "the test target file, it is not currently possible to mock resources imported "
                "separate to the test file"
            )
        old = pointers.at(root, found)
        root = pointers.replaced(root, found, _relabelled(mock.value, old))
    return root


def _mocks(definition: Definition, case: Case, env: Mapping[str, str]) -> dict[str, Entry]:
    if not case.test.mocks:
        return {}
    tests = _document(definition.file, env, Report(chilled=True))
    found = pointers.at(tests, ["tests", str(case.index), "mocks"])
    return found.entries if isinstance(found, TreeMapping) else {}


def _relabelled(mock: Tree, old: Tree | None) -> Tree:
    """A mock under the label of what it replaces."""
    label = old.entries.get("label") if isinstance(old, TreeMapping) else None
    if label is None or not isinstance(mock, TreeMapping):
        return mock
    return TreeMapping({**mock.entries, "label": label}, mock.place)


def _resources(decoder: Decoder, root: Tree) -> list[tuple[str, Node]]:
    """The resources that processors can use, each with the list it stands in."""
    found: list[tuple[str, Node]] = []
    if not isinstance(root, TreeMapping):
        return found
    for name in _RESOURCES:
        listed = root.get(name)
        kind = t.ListOf(t.Child(name.removesuffix("_resources")))
        made = None if listed is None else decoder.value(kind, listed, f"root.{name}")
        if isinstance(made, list):
            found += [(name, node) for node in made]
    return found
