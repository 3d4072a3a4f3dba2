"""Functions and methods of users, written in Python.

A plug-in is a Python file, or a package with an entry point in the group
`openmeter_collector.bloblang`, in which functions are declared with `@function` and `@method`:

    from openmeter_collector.bloblang import Case, Value, method

    @method("company", cases=[Case("root = this.cents()", "12.5", "1250")])
    def cents(value: Value) -> Value:
        \"\"\"An amount of money in cents.\"\"\"
        return round(float(value) * 100)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from openmeter_collector.bloblang.definition import Entry, Registry
from openmeter_collector.bloblang.failure import Fail
from openmeter_collector.bloblang.library import STANDARD
from openmeter_collector.errors import ConfigError
from openmeter_collector.values.kinds import Float64, Int64, Value

GROUP: Final = "openmeter_collector.bloblang"


def library_with(paths: Iterable[Path]) -> Registry:
    """The library with the plug-ins of the environment and of files.

    Raises:
        ConfigError: a file cannot be run, or declares nothing.
    """
    found = STANDARD.with_entries(load_entry_points(importlib.metadata.entry_points))
    for path in paths:
        found = found.with_entries(load_plugin(path))
    return found


def load_plugin(path: Path) -> list[Entry]:
    """The entries that a Python file declares; running it is up to who names it.

    Raises:
        ConfigError: the file cannot be run, or declares nothing.
    """
    spec = importlib.util.spec_from_file_location(f"bloblang_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: this is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return entries_of(module, str(path))


def load_entry_points(find: Callable[..., Iterable[Any]]) -> list[Entry]:
    """The entries of all installed packages that offer some; `find` looks entry points up."""
    found: list[Entry] = []
    for point in find(group=GROUP):
        found += entries_of(point.load(), point.name)
    return found


def entries_of(module: ModuleType | object, name: str) -> list[Entry]:
    """The entries that stand in a module."""
    entries = [value for value in vars(module).values() if isinstance(value, Entry)]
    if not entries:
        raise ConfigError(f"{name}: declares no @function and no @method")
    return [guarded(entry) for entry in entries]


def guarded(entry: Entry) -> Entry:
    """An entry whose results and errors are those of the language."""

    def call(*arguments: Any) -> Any:
        try:
            made = entry.call(*arguments)
        except Fail:
            raise
        except Exception as error:
            raise Fail(
                f"{entry.noun} {entry.name}: {str(error) or type(error).__name__}"
            ) from error
        if entry.prepared:
            return guarded(replace(entry, call=made, prepared=False)).call
        return as_value(made)

    return replace(entry, call=call)


def as_value(value: Any) -> Value:
    """What Python code answered, as a value of the language."""
    kind = type(value)
    if kind is int:
        return Int64(value)
    if kind is float:
        return Float64(value)
    if kind is dict:
        return {str(key): as_value(one) for key, one in value.items()}
    if kind in (list, tuple):
        return [as_value(one) for one in value]
    return value
