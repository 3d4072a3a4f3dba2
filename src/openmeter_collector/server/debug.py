"""Endpoints for finding out what a process is doing: its config, its stacks.

Profiles in the format of Go have no counterpart here; their paths say what to use instead.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import Final

INSTEAD: Final = (
    "profiles in the format of Go are not made by this collector; "
    "attach py-spy to the process instead (py-spy top --pid PID, py-spy record --pid PID), "
    "or read /debug/stack\n"
)
PROFILES: Final = tuple(
    f"/debug/pprof/{name}" for name in ("profile", "heap", "block", "mutex", "symbol", "trace")
)


def stacks() -> str:
    """What every task and every thread is doing at the moment; values are not shown."""
    parts = []
    for task in sorted(asyncio.all_tasks(), key=lambda one: one.get_name()):
        frames = task.get_stack(limit=20)
        shown = "".join(
            f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}\n'
            for frame in frames
        )
        parts.append(f"task {task.get_name()}\n{shown}")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way
        shown = "".join(
            f'  File "{one.filename}", line {one.lineno}, in {one.name}\n'
            for one in traceback.extract_stack(frame, limit=40)
        )
        parts.append(f"thread {names.get(ident, ident)}\n{shown}")
    return "\n".join(parts)
