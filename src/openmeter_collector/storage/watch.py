"""Do the books of a journal in use balance: asked seldom, answered beside the work.

Each line of the books is changed with the fact that it counts, in one transaction, so they balance at every
moment; if they do not, there is a defect, or somebody changed the file. That is worth an alarm, and not worth
a microsecond of the work: nothing is counted unless somebody asks, then in a thread of its own, every few
minutes at most and for two seconds at the longest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import apsw

from openmeter_collector.errors import StorageError
from openmeter_collector.storage.audit import audited
from openmeter_collector.storage.visit import reading

AUDIT_EVERY: Final = 300.0
AUDIT_MOST: Final = 2.0
"""Seconds. While an audit lasts, the log of the file cannot be begun anew."""

_STEPS: Final = 10_000


class BooksWatch:
    """What the last audit found. Belongs to one journal, and is closed before it."""

    def __init__(self, path: Path, now: Callable[[], float], told: Callable[[str], None]) -> None:
        """Audit nothing yet.

        Args:
            now: seconds that only grow.
            told: called in the thread when an audit came to no end, with the reason; once for each reason.
        """
        self._path = path
        self._now = now
        self._told = told
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="books-audit")
        self._asked: float | None = None
        self._found = 0
        self._trouble = ""
        self._closed = threading.Event()

    def imbalance(self) -> int:
        """Events that the books cannot explain, as of the last audit that came to an end.

        Never waits: when that was long ago, another begins, and the next call has its answer.
        """
        now = self._now()
        due = self._asked is None or now - self._asked >= AUDIT_EVERY
        if due and not self._closed.is_set():
            self._asked = now
            self._executor.submit(self._audit)
        return self._found

    def close(self) -> None:
        """End the thread. Blocks until an audit under way has noticed."""
        self._closed.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    # ---- in the thread ---------------------------------------------------------------------

    def _audit(self) -> None:
        until = time.monotonic() + AUDIT_MOST
        trouble = ""
        try:
            with reading(self._path) as connection:
                connection.set_progress_handler(
                    lambda: self._closed.is_set() or time.monotonic() > until, _STEPS
                )
                self._found = sum(abs(line.balance) for line in audited(connection))
        except apsw.InterruptError:
            trouble = f"more than {AUDIT_MOST:g} seconds of counting"
        except (StorageError, apsw.Error, OSError) as error:
            trouble = str(error)
        if trouble and trouble != self._trouble and not self._closed.is_set():
            self._told(trouble)
        self._trouble = trouble
