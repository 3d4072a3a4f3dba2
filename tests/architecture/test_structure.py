"""The shape of the code: layers, cycles, sizes, one door for components."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "openmeter_collector"
MODULES = sorted(SOURCE.rglob("*.py"))

# Modules over the size at which the question has to be asked: what is the one reason to change?
LARGE: dict[str, str] = {}
MOST_LINES = 500
# Functions over 60 lines, which have to be one long list of like things to be here.
LONG_FUNCTIONS: dict[str, str] = {}
MOST_FUNCTION_LINES = 80


def test_layers_and_families_keep_apart():
    """The import contracts of pyproject.toml hold."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_modules_import_each_other_in_a_circle():
    graph = {name_of(path): set(imports_of(path)) for path in MODULES}
    graph = {name: {one for one in found if one in graph} for name, found in graph.items()}
    assert circle_in(graph) is None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_and_functions_have_a_size_that_can_be_read(path):
    where = str(path.relative_to(SOURCE))
    text = path.read_text()
    if where not in LARGE:
        assert text.count("\n") <= MOST_LINES, "has it a second reason to change?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno
            allowed = f"{where}:{node.name}" in LONG_FUNCTIONS
            assert allowed or length <= MOST_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_exceptions_to_the_sizes_are_still_needed():
    for where in LARGE:
        assert (SOURCE / where).read_text().count("\n") > MOST_LINES, where


def test_modules_say_what_they_are_for():
    silent = [path for path in MODULES if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert not silent


def test_only_the_command_line_ends_the_process():
    ending = [
        name_of(path)
        for path in MODULES
        if "cli" not in path.parts
        and ("sys.exit" in path.read_text() or "os._exit" in path.read_text())
    ]
    assert not ending


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[str]:
    """Modules imported when this one is, written as `from x import y`; not those in functions."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return trail[trail.index(name) :]
        if name in done:
            return None
        for one in graph[name]:
            # A package's own __init__ re-exports its modules; that is no circle of theirs.
            if one != name and not name.startswith(one + "."):
                found = visit(one, [*trail, name])
                if found:
                    return found
        done.add(name)
        return None

    for name in graph:
        found = visit(name, [])
        if found:
            return found
    return None


def test_the_search_for_circles_finds_one():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
