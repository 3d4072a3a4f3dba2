"""Resolve `pyproject.toml` into hashed requirements files, or check that they are current.

    ./dev lock                  resolve again (needs the package index)
    lock.py --check             compare a digest of the inputs with the one in each file

Why files of our own and not uv.lock: that records the addresses of the index it was made
with, and this repository names packages, versions and hashes only.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
UV = ROOT / ".tools" / "bin" / "uv"


def inputs() -> dict[str, list[str]]:
    """Requirement lines per lock file: `run`, one per extra, `dev` with everything, and `sbom`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    core = project["project"]["dependencies"]
    extras = project["project"].get("optional-dependencies", {})
    build = project["build-system"]["requires"]
    lines = {"run": core + build}
    for name, wanted in extras.items():
        lines[f"extra-{name}"] = core + build + wanted
    everything = [line for wanted in extras.values() for line in wanted]
    lines["dev"] = core + build + everything + project["dependency-groups"]["dev"]
    lines["sbom"] = project["dependency-groups"]["sbom"]
    return lines


def header(wanted: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(set(wanted))).encode()).hexdigest()
    return f"# Made by ./dev lock from pyproject.toml; do not edit. Inputs: {digest}\n"


def check() -> int:
    stale = [
        name
        for name, wanted in inputs().items()
        if not (path := HERE / f"{name}.txt").exists()
        or not path.read_text().startswith(header(wanted))
    ]
    unhashed = [
        f"{path.name}: {line}"
        for path in sorted(HERE.glob("*.txt"))
        for line in without_hashes(path.read_text())
    ]
    known = {*inputs(), "uv"}
    left_over = [path.stem for path in HERE.glob("*.txt") if path.stem not in known]
    for name in stale:
        print(f"requirements/{name}.txt: out of date; run ./dev lock", file=sys.stderr)
    for line in unhashed:
        print(f"requirements/{line}: has no hash; run ./dev lock", file=sys.stderr)
    for name in left_over:
        print(f"requirements/{name}.txt: belongs to no extra; delete it", file=sys.stderr)
    return 1 if stale or left_over or unhashed else 0


def without_hashes(text: str) -> list[str]:
    """The packages of a lock file that could be anything, because no hash says what they are."""
    whole = text.replace("\\\n", " ").splitlines()
    return [
        line.split()[0]
        for line in whole
        if line.strip() and not line.startswith("#") and "--hash=sha256:" not in line
    ]


def resolve() -> int:
    for name, wanted in inputs().items():
        path = HERE / f"{name}.txt"
        out = path.with_suffix(".new")
        # Present pins are kept unless the inputs forbid them, so a new dependency
        # does not move the others.
        if path.exists():
            out.write_text(path.read_text())
        command = [
            str(UV), "pip", "compile", "-", "--quiet", "--universal", "--python-version", "3.11",
            "--generate-hashes", "--no-annotate", "--no-header",
            "--prerelease", "if-necessary-or-explicit",
            "--output-file", str(out),
        ]  # fmt: skip
        if name != "run":
            command += ["--constraint", str(HERE / "run.txt")]  # one version of each in all files
        done = subprocess.run(command, input="\n".join(wanted), text=True, check=False)
        if done.returncode:
            return done.returncode
        body = "".join(
            line for line in out.read_text().splitlines(True) if not line.startswith(("#", "--"))
        )
        path.write_text(header(wanted) + body)
        out.unlink()
        print(f"requirements/{name}.txt: {body.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(check() if "--check" in sys.argv[1:] else resolve())
