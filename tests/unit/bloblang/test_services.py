"""Imports, files, environment and counters come from whoever compiles."""

import pytest

from openmeter_collector.bloblang import MappingError, Services, SimpleDocument, compile

FILES = {
    "/maps/main.blobl": 'import "./lib/names.blobl"\nroot = this.apply("loud")',
    "/maps/lib/names.blobl": "map loud {\n  root = this.name.uppercase()\n}\n",
    "/maps/plain.blobl": "root = 1",
    "/maps/broken.blobl": "root = = 1",
    "/maps/loop.blobl": 'import "./loop.blobl"',
    "/maps/data.txt": "hello",
}


def read(path):
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path].encode()


SERVICES = Services(env={"NAME": "x"}, read=read, folder="/maps")
MESSAGE = [SimpleDocument(b'{"name":"ann"}')]


def run(text, services=SERVICES):
    return compile(text, services=services).run(MESSAGE, 0)[0]


def fault(text):
    with pytest.raises(MappingError) as caught:
        compile(text, services=SERVICES)
    return caught.value


def test_maps_are_imported_relative_to_the_importing_file():
    assert run('from "main.blobl"') == b"ANN"
    assert run('import "lib/names.blobl"\nroot.n = this.apply("loud")') == {"n": "ANN"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'import "nope.blobl"',
            "failed to read import: open /maps/nope.blobl: no such file or directory",
        ),
        ('import "plain.blobl"', "no maps to import from 'plain.blobl'"),
        ('import "loop.blobl"', "imports itself"),
        ('import "lib/names.blobl"\nimport "lib/names.blobl"', "map name collisions from import"),
    ],
)
def test_imports_that_cannot_be(text, message):
    error = fault(text)
    assert message in error.rendered()


def test_a_fault_in_an_imported_file_is_shown_there():
    shown = fault('import "broken.blobl"').rendered()
    assert "failed to parse import 'broken.blobl'" in shown
    assert "broken.blobl: line 1 char 8: expected query" in shown


def test_files_and_variables():
    assert run('root = file("data.txt")') == b"hello"
    assert run('root = file_rel(path: "data.txt", no_cache: true).string()') == b"hello"
    assert run('root = env("NAME")') == b"x"
    assert run('root.a = env("NOPE")') == {"a": None}


def test_counts_are_shared_through_the_services():
    assert [run('root = count("a")'), run('root = count("a")'), run('root = count("b")')] == [
        1,
        2,
        1,
    ]
    assert run('root = count("a")', Services()) == 1
