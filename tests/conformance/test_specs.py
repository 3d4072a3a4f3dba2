"""What every component owes its readers, checked for each that is registered."""

import inspect
import pkgutil
from importlib import import_module

import pytest

from openmeter_collector import components
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.components.index import INDEX
from openmeter_collector.config import Config, Resources, read
from openmeter_collector.config.render import render
from openmeter_collector.spec import types as t
from openmeter_collector.spec.component import KINDS, ComponentSpec, fields_of
from openmeter_collector.spec.reference import component_page
from openmeter_collector.spec.trust import EVERYTHING

REGISTRY = standard_registry()
SPECS = list(REGISTRY.specs())
ids = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.name}")


class _Anything(dict):
    """An environment in which every variable is set."""

    def get(self, key, default=None):
        return "1"


def all_fields(cls):
    for one in fields_of(cls).values():
        yield one
        inner = one.type
        while isinstance(inner, t.Optional | t.ListOf | t.MapOf):
            inner = inner.inner
        if isinstance(inner, t.SectionOf):
            yield from all_fields(inner.cls)


@ids
def test_every_field_is_documented(spec):
    for one in all_fields(spec.cls):
        assert one.doc.strip().endswith((".", ":", "`")), f"{one.name}: a sentence ends with a stop"
        if isinstance(one.type, t.Choice) and one.choices:
            assert set(one.choices) == set(one.type.options)


@ids
def test_a_field_that_names_files_says_so(spec):
    """What is posted over the API is refused by it; see `spec.trust`."""
    for one in all_fields(spec.cls):
        named = one.name.endswith(("_file", "_files", "_paths")) or one.name == "kubeconfig"
        assert not named or one.file is not None or spec.dangerous, one.name


@ids
def test_the_page_says_what_it_is(spec):
    assert len(spec.description.split()) >= 4
    page = component_page(spec)
    assert page.startswith(f"# `{spec.name}` ")
    for one in spec.fields.values():
        assert f"### `{one.name}`" in page


@ids
def test_defaults_are_values_of_their_fields(spec):
    """A default passes the bounds and rules that what is written has to pass."""
    for one in all_fields(spec.cls):
        if one.required or (value := one.make_default()) is None:
            continue
        if isinstance(one.type, t.Choice):
            assert value in one.type.options
        if one.lint is not None:
            assert one.lint(value) is None, one.name


@ids
def test_examples_lint_decode_and_echo_back(spec):
    for example in spec.examples:
        text = inspect.cleandoc(example.yaml)
        document = Resources if text.partition(":")[0].endswith("_resources") else Config
        reading = read(
            text, REGISTRY, document, env=_Anything(), file=example.title, trust=EVERYTHING
        )
        assert [
            problem.friendly() for problem in reading.problems if problem.severity == "error"
        ] == []
        assert spec.name in text
        shown = render(reading.config, scrub=False)
        again = read(
            shown, REGISTRY, document, env={}, file=f"{example.title} (echo)", trust=EVERYTHING
        )
        assert [
            problem.friendly() for problem in again.problems if problem.severity == "error"
        ] == []
        assert render(again.config, scrub=False) == shown


@ids
def test_the_value_field_exists(spec):
    assert not spec.value or spec.value in spec.fields
    assert callable(getattr(spec.cls, "open", None))


def test_the_index_names_every_component_and_nothing_else():
    declared = {}
    for module in pkgutil.walk_packages(components.__path__, f"{components.__name__}."):
        for name, value in vars(import_module(module.name)).items():
            spec = getattr(value, "__spec__", None)
            if isinstance(spec, ComponentSpec) and value.__module__ == module.name:
                declared[spec.kind, spec.name] = f"{module.name}:{name}"
    indexed = {(kind, name): at for kind, names in INDEX.items() for name, at in names.items()}
    assert indexed == declared
    assert set(INDEX) <= set(KINDS)
    assert all(list(names) == sorted(names) for names in INDEX.values())
