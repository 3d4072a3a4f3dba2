"""Compare `test` and `template lint` with recorded outputs: how many agree, and every difference.

    ./dev python tests/tools/config_test_agreement.py LINT.json CONFIG_TESTS.json

In the first file cases with `cmd: test` are looked at: `{name, args, env, exit, stdout, stderr, yaml}`.
The second holds `config_tests`: `{file, raw, kind, files, target_file, config_raw, go_result}`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REASONS = {
    "unable to infer": "names a component that is not here; told at each of its places",
    "was not found": "every reference that is missing is told, at its place",
    "unrecognised function": "every function that is missing is told, at its place",
}


@dataclass
class Case:
    """A recorded call."""

    name: str
    arguments: list[str]
    files: dict[str, str]
    exit: int
    out: str
    err: str
    env: dict[str, str] = field(default_factory=dict)


def cases(lint: Path, config_tests: Path) -> list[Case]:
    made = []
    for one in json.loads(lint.read_text()):
        if one["cmd"] == "test":
            name = f"{one['name']}.yaml"
            made.append(
                Case(name, ["test", name], {name: one["yaml"]}, one["exit"], one["stdout"],
                     one["stderr"], one["env"])
            )  # fmt: skip
    made += [recorded(one) for one in json.loads(config_tests.read_text())["config_tests"]]
    return made


def recorded(one: dict[str, Any]) -> Case:
    files = {one["file"]: one["raw"], **(one.get("files") or {})}
    target = one.get("target_file") or one["file"]
    if one.get("target_file"):
        files[target] = one["config_raw"]
    command = ["test", target] if one["kind"] == "unit_tests" else ["template", "lint", target]
    result = one["go_result"]
    name = f"{one['repo']}:{one['file']}"
    return Case(name, command, files, result["exit"], result["stdout"], result["stderr"])


def outcome(case: Case) -> tuple[int, str, str]:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in case.files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "openmeter_collector.cli.main", *case.arguments],
            cwd=folder,
            env={**os.environ, **case.env},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def reason(case: Case) -> str:
    said = case.out + case.err
    return next((why for words, why in REASONS.items() if words in said), "no reason known")


def main() -> int:
    found = cases(Path(sys.argv[1]), Path(sys.argv[2]))
    agreed = same_exit = 0
    for case in found:
        code, out, err = outcome(case)
        same_exit += code == case.exit
        if (code, out, err) == (case.exit, case.out.strip(), case.err.strip()):
            agreed += 1
            continue
        print(f"{case.name}: {reason(case)}")
        print(f"  recorded ({case.exit}): {(case.out + case.err).strip()!r}")
        print(f"  ours     ({code}): {(out + err)!r}")
    print(f"{agreed} of {len(found)} agree, {same_exit} in their exit code")
    return 0


if __name__ == "__main__":
    sys.exit(main())
