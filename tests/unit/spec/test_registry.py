"""A registry is a value that imports a component when it is asked for."""

import sys
from importlib.metadata import EntryPoint

import pytest

from kit.config_parts import Catch, Guard, Noop, Sink, Source
from openmeter_collector.spec.registry import Registry, entry_points

REGISTRY = Registry.of(Source, Noop, Catch, Sink, Guard)


def test_registries_are_values():
    fewer = REGISTRY.without("processor", "noop").only("output", "sink")
    assert fewer.names("processor") == ["catch"]
    assert fewer.names("output") == ["sink"]
    assert fewer.names("input") == ["source"]
    assert REGISTRY.names("processor") == ["catch", "noop"]
    assert fewer.with_(Guard).names("output") == ["guard", "sink"]


def test_components_are_found_by_kind_and_name():
    assert REGISTRY.get("input", "source") is Source.__spec__
    assert REGISTRY.get("output", "source") is None
    assert REGISTRY.has("input", "source")
    assert REGISTRY.kinds_of("source") == ["input"]
    assert [spec.name for spec in REGISTRY.specs("output")] == ["guard", "sink"]
    assert len(list(REGISTRY.specs())) == 5


def test_what_was_meant_is_guessed():
    assert REGISTRY.suggest("processor", "cach") == "catch"
    assert REGISTRY.suggest("processor", "zzz") is None


def test_an_index_is_imported_on_demand(tmp_path, monkeypatch):
    (tmp_path / "lazy_part.py").write_text(
        "from openmeter_collector.api import output\n"
        "@output('lazy')\nclass Lazy:\n    '''Come late.'''\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.from_index(
        {"output": {"lazy": "lazy_part:Lazy", "gone": "no_such_module:Gone"}}
    )
    assert registry.names("output") == ["gone", "lazy"]
    assert registry.has("output", "lazy")
    assert "lazy_part" not in sys.modules
    assert registry.get("output", "lazy").summary == "Come late."
    assert registry.get("output", "lazy") is registry.get("output", "lazy")
    with pytest.raises(ImportError):
        registry.get("output", "gone")


def test_other_packages_add_components_when_something_is_not_there(monkeypatch):
    points = [
        EntryPoint("output.sink", "kit.config_parts:Sink", "g"),
        EntryPoint("nonsense", "kit.config_parts:Sink", "g"),
        EntryPoint("sauce.x", "kit.config_parts:Sink", "g"),
    ]
    calls = []
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: calls.append(group) or points
    )
    registry = Registry.from_index({"output": {"guard": "kit.config_parts:Guard"}}, entry_points)
    assert registry.has("output", "guard")
    assert calls == []
    assert registry.get("output", "sink") is Sink.__spec__
    assert registry.names("output") == ["guard", "sink"]
    assert len(list(registry.specs())) == 2
    assert calls == ["openmeter_collector.components"]


def test_the_later_registry_wins_a_merge():
    other = Registry.from_index({"output": {"sink": "kit.config_parts:Guard"}})
    assert REGISTRY.merged(other).get("output", "sink") is Guard.__spec__
    assert other.merged(REGISTRY).get("output", "sink") is Sink.__spec__
