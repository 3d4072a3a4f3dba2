"""The public API as programs see it: installed, typed, and checked by two checkers at their strictest."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.needs import require

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "tests" / "typing").glob("*.py"))


@pytest.fixture
def outside(tmp_path):
    """The programs in a folder that knows nothing of this project but that it is installed."""
    for program in PROGRAMS:
        shutil.copy(program, tmp_path)
    return tmp_path


def test_there_are_programs_with_mistakes_in_them():
    texts = [program.read_text() for program in PROGRAMS]
    assert sum(text.count("# type: ignore[") for text in texts) > 10
    assert sum(text.count("assert_type(") for text in texts) > 15


@pytest.mark.slow
def test_mypy_finds_the_mistakes_and_no_others(outside):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir"]
    done = subprocess.run(
        [*command, str(ROOT / ".cache" / "mypy-outside"), "."],
        cwd=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1].startswith("Success"), done.stdout + done.stderr


@pytest.mark.slow
def test_pyright_finds_the_mistakes_and_no_others(outside):
    node, pyright = require("Node.js"), require("pyright")
    settings = {
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": True,
        "enableTypeIgnoreComments": False,
        "reportPrivateImportUsage": True,
        "reportDeprecated": False,  # of asynccontextmanager with AsyncIterator, which is right
    }
    (outside / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [node, pyright, "--pythonpath", sys.executable, "--outputjson", "."],
        cwd=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    found = [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in told["generalDiagnostics"]
    ]
    assert told["summary"]["filesAnalyzed"] == len(PROGRAMS)
    assert found == []
