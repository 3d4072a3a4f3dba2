"""Functions and methods that users write."""

import types

import pytest

from openmeter_collector.bloblang import (
    STANDARD,
    Case,
    MappingError,
    MappingFailed,
    SimpleDocument,
    Value,
    compile,
    function,
    method,
)
from openmeter_collector.bloblang.plugins import entries_of, load_entry_points, load_plugin
from openmeter_collector.errors import ConfigError
from openmeter_collector.values.kinds import Int64

SOURCE = '''
from openmeter_collector.bloblang import Case, Value, function, method

@method("company", cases=[Case("root = this.cents()", "12.5", "1250")], params={"rate": "What a unit is worth."})
def cents(value: Value, rate: float = 1.0) -> Value:
    """An amount of money in cents."""
    return round(float(value) * 100 * rate)

@function("company")
def answer() -> Value:
    """Always the same."""
    return 42
'''


@pytest.fixture
def registry(tmp_path):
    path = tmp_path / "money.py"
    path.write_text(SOURCE)
    return STANDARD.with_entries(load_plugin(path))


def run(text, registry, given=b"12.5"):
    return compile(text, registry=registry).run([SimpleDocument(given)], 0)[0]


def test_a_file_adds_functions_and_methods(registry):
    body = run("root = [this.cents(), this.cents(rate: 2), answer()]", registry)
    assert body == [1250, 2500, 42]
    assert all(type(one) is Int64 for one in body)


def test_parameters_are_checked_like_those_of_the_library(registry):
    with pytest.raises(MappingError, match="wrong number of arguments, expected 1, got 2"):
        compile("root = this.cents(1, 2)", registry=registry)
    with pytest.raises(MappingError, match="field rate: "):
        compile('root = this.cents("a")', registry=registry)


def test_an_exception_of_a_plug_in_is_a_failure_of_the_mapping(registry):
    with pytest.raises(MappingFailed, match="method cents: could not convert string to float"):
        run("root = this.cents()", registry, b'"x"')


def test_the_standard_library_is_not_changed_by_it(registry):
    assert "cents" in registry.methods
    assert "cents" not in STANDARD.methods


def test_entry_points_of_installed_packages():
    module = types.ModuleType("acme")

    @method("company", cases=[Case("root = this.twice()", "2", "4")])
    def twice(value: Value) -> Value:
        """Twice the number."""
        return value * 2

    module.twice = twice
    point = types.SimpleNamespace(name="acme", load=lambda: module)
    (entry,) = load_entry_points(lambda group: [point])
    assert run("root = this.twice()", STANDARD.with_entries([entry]), b"2") == 4


def test_a_package_replaces_nothing_and_is_looked_for_only_when_a_name_is_not_there():
    @method("company", cases=[Case("root = this.twice()", "2", "4")])
    def twice(value: Value) -> Value:
        """Twice the number."""
        return value * 2

    @method("company", cases=[Case("root = this.uppercase()", "2", "4")])
    def uppercase(value: Value) -> Value:
        """Another one of a name that is there."""
        return "replaced"

    asked = []

    def more():
        asked.append(1)
        return entries_of(types.SimpleNamespace(twice=twice, uppercase=uppercase), "acme")

    registry = STANDARD.with_more(more)
    assert (run("root = this.uppercase()", registry, b'"a"'), asked) == (b"A", [])
    assert run("root = this.twice()", registry, b"2") == 4
    assert (run("root = this.uppercase()", registry, b'"a"'), asked) == (b"A", [1])
    with pytest.raises(MappingError, match="unrecognised method 'thrice'"):
        run("root = this.thrice()", registry)
    assert asked == [1]


def test_a_package_that_cannot_be_imported_is_named():
    def load():
        raise ImportError("no module named acme")

    point = types.SimpleNamespace(name="acme", load=load)
    with pytest.raises(ConfigError, match="plug-in acme: ImportError: no module named acme; mend"):
        load_entry_points(lambda group: [point])


def test_a_file_that_declares_nothing_or_does_not_run_is_told(tmp_path):
    empty, broken = tmp_path / "empty.py", tmp_path / "broken.py"
    empty.write_text("x = 1")
    broken.write_text("1 / 0")
    with pytest.raises(ConfigError, match="declares no @function and no @method"):
        load_plugin(empty)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        load_plugin(broken)
    with pytest.raises(ConfigError):
        entries_of(types.ModuleType("nothing"), "nothing")


def test_parameter_kinds_are_checked_when_declared():
    with pytest.raises(TypeError, match="no parameter kind"):

        @function("company")
        def bad(value: set) -> Value:
            """Nothing."""
