"""Compare `lint` with recorded outputs: how many agree, and every difference with a reason.

    ./dev python tests/tools/lint_agreement.py RECORDED.json

The file is a list of `{name, cmd, args, env, exit, stderr, yaml}`; only `cmd: lint` is looked at.
Components that are not here yet are stood in for, so that what is compared is the reading of configs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openmeter_collector.api import (
    BatchPolicy,
    Duration,
    Interpolated,
    MappingText,
    OutputNode,
    ProcessorNode,
    cache,
    field,
    input,
    output,
    processor,
    section,
)
from openmeter_collector.cli.lint import check
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import lint_lines
from openmeter_collector.spec.registry import Registry

REASONS = dict.fromkeys(
    (
        "bad_mapping",
        "bad_mapping_folded",
        "bad_mapping_unknown_fn",
        "bad_mapping_comment_eof",
        "bad_interp2",
        "branch_nested",
        "batch_policy",
    ),
    "about the inside of a mapping; needs the language",
)


class _Opens:
    __slots__ = ()

    @asynccontextmanager
    async def open(self, env: Any):
        yield None


@input("stdin")
class Stdin(_Opens):
    """Stand-in."""


@input("http_client")
class HttpClientInput(_Opens):
    """Stand-in."""

    url: str = field(doc="Address.")
    verb: str = field(default="GET", doc="Verb.")


@input("generate")
class Generate(_Opens):
    """Stand-in."""

    mapping: MappingText = field(doc="Mapping.")
    interval: Duration = field(default=Duration("1s"), doc="Interval.")
    count: int = field(default=0, doc="Count.")


@input("file")
class File(_Opens):
    """Stand-in."""

    paths: list[str] = field(doc="Paths.")


@processor("mapping", value="mapping")
class Mapping(_Opens):
    """Stand-in."""

    mapping: MappingText = field(doc="Mapping.")


@processor("bloblang", value="mapping")
class Bloblang(_Opens):
    """Stand-in."""

    mapping: MappingText = field(doc="Mapping.")


@processor("log")
class Log(_Opens):
    """Stand-in."""

    level: str = field(default="INFO", doc="Level.")
    message: Interpolated = field(default=Interpolated(""), doc="Message.")


@processor("branch")
class Branch(_Opens):
    """Stand-in."""

    request_map: MappingText = field(default=MappingText("root = this"), doc="Request.")
    processors: list[ProcessorNode] = field(default_factory=list, doc="Processors.")
    result_map: MappingText = field(default=MappingText("root = this"), doc="Result.")


@processor("resource", value="label")
class Resource(_Opens):
    """Stand-in."""

    label: str = field(default="", doc="Label.")


@section
class Case:
    """Stand-in."""

    check: MappingText = field(default=MappingText("root = this"), doc="Check.")
    output: OutputNode = field(doc="Output.")


@output("switch")
class Switch(_Opens):
    """Stand-in."""

    cases: list[Case] = field(default_factory=list, doc="Cases.")


@output("broker")
class Broker(_Opens):
    """Stand-in."""

    outputs: list[OutputNode] = field(default_factory=list, doc="Outputs.")
    batching: BatchPolicy = field(default_factory=BatchPolicy, doc="Batching.")


@cache("memory")
class Memory(_Opens):
    """Stand-in."""


STAND_INS = Registry.of(
    Stdin, HttpClientInput, Generate, File, Mapping, Bloblang, Log, Branch, Resource, Switch,
    Broker, Memory,
)  # fmt: skip


def outcome(case: dict[str, Any], registry: Registry, folder: Path) -> tuple[int, str]:
    """Exit code and output of `lint` for one recorded case."""
    path = folder / f"{case['name']}.yaml"
    path.write_text(case["yaml"])
    problems = check(path, registry, case["env"])
    asked = {"error", "lint"} | ({"deprecated"} if "--deprecated" in case["args"] else set())
    told = [problem for problem in problems if problem.severity in asked]
    text = "".join(f"{line}\n" for line in lint_lines(told))
    return (1 if told else 0), text.replace(f"{folder}/", "")


def main() -> int:
    cases = [c for c in json.loads(Path(sys.argv[1]).read_text()) if c["cmd"] == "lint"]
    registry = STAND_INS.merged(standard_registry())
    agreed = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            code, text = outcome(case, registry, Path(folder))
            if (code, text.split()) == (case["exit"], case["stderr"].split()):
                agreed += 1
                continue
            print(f"{case['name']}: {REASONS.get(case['name'], 'no reason known')}")
            print(f"  recorded ({case['exit']}): {case['stderr'].strip()!r}")
            print(f"  ours     ({code}): {text.strip()!r}")
    print(f"{agreed} of {len(cases)} agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
