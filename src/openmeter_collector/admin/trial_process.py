"""The process in which a mapping is tried, so that one that never ends, or wants all memory, can be ended.

Given one request as JSON on its input. Says `ready` and a line break when it has begun, then the outcome
as JSON. A process an attempt: nothing of one attempt is there in the next, and nothing waits in between.

    {"do": "attempt" | "case", "asked": {...}, "wanted": {...}, "outside": false, "plugins": []}
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from openmeter_collector.admin.attempt import Asked, NotUnderstood, Reach, attempted, wrong
from openmeter_collector.admin.unit_case import Wanted, yaml_of
from openmeter_collector.bloblang import MappingError
from openmeter_collector.errors import ConfigError

MOST_MEMORY: Final = 128 << 20
"""Bytes beyond those the process has when it begins."""
MOST_SECONDS: Final = 5
"""Of processor time; whoever started it waits about as long."""
MOST_RESULT: Final = 4 << 20


def main() -> None:
    """Answer the one request."""
    asked = orjson.loads(sys.stdin.buffer.read())
    _bound()
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    try:
        made = orjson.dumps(outcome(asked))
    except MemoryError:
        made = orjson.dumps(too_large())
    if len(made) > MOST_RESULT:
        made = orjson.dumps(wrong("run", f"the outcome is larger than {MOST_RESULT} bytes"))
    out.write(made)
    out.flush()


def outcome(request: dict[str, Any]) -> dict[str, Any]:
    """What an attempt comes to, or the test that was made of one."""
    reach = Reach(outside=request["outside"], plugins=tuple(request["plugins"]))
    try:
        asked = Asked.of(request["asked"])
        if request["do"] == "attempt":
            return attempted(asked, reach)
        return {"text": yaml_of(asked, Wanted(**request["wanted"]), reach)}
    except (NotUnderstood, ConfigError) as error:
        return wrong("ask", str(error))
    except MappingError as error:
        return wrong("parse", error.diagnostics[0].text)


def too_large() -> dict[str, Any]:
    """What is said of an attempt that did not fit."""
    return wrong("run", f"the mapping needs more than {MOST_MEMORY >> 20} MiB of memory")


def _bound() -> None:
    """Less important than all else here, and never larger or longer than it may be."""
    os.nice(10)
    for which, most in (
        (resource.RLIMIT_DATA, _held() + MOST_MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(which, (most, most))
    # For when nobody waits any more who would end it.
    seconds = int(sum(os.times()[:2])) + MOST_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _held() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[5])
    except OSError:  # not on Linux, where the bound on memory is a rough one
        return 64 << 20
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
