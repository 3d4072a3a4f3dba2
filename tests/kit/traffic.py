"""Senders that go on whatever happens, and the collectors they send to, as processes."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from kit.waiting import until_true

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Traffic:
    """Single events, sent again until they are answered 2xx, over connections of a few requests each.

    Attributes:
        acked: ids that were answered 2xx.
        issued: ids that were ever sent, answered or not.
    """

    def __init__(self, port, threads=4):
        self.acked = set()
        self.issued = set()
        self._port = port
        self._stop = threading.Event()
        self._count = itertools.count()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for one in self._threads:
            one.join(30)
        assert not any(one.is_alive() for one in self._threads)

    def more(self, count, seconds=30):
        """Wait until so many more events have been acknowledged."""
        enough = len(self.acked) + count
        until_true(lambda: len(self.acked) >= enough, seconds)

    def _send(self):
        pending = None
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                for _ in range(10):
                    pending = pending or f"e{next(self._count)}"
                    self.issued.add(pending)
                    body = json.dumps(
                        {"id": pending, "source": "s", "type": "t", "specversion": "1.0",
                         "subject": "c"}
                    )  # fmt: skip
                    connection.request(
                        "POST",
                        "/api/v1/events",
                        body,
                        {"Content-Type": "application/cloudevents+json"},
                    )
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status < 300:
                        self.acked.add(pending)
                        pending = None
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()


class Running:
    """A collector as a child process; its log is read from its file."""

    def __init__(self, config, log, *more):
        self.log = log
        self.config = config
        self._more = more
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openmeter_collector.cli.main",
                 "run", "-c", str(self.config), *self._more],
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )  # fmt: skip
        return self

    def lines(self, message):
        """Lines of the log with that message."""
        made = []
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry["msg"] == message:
                    made.append(entry)
        return made

    def says(self, message, times=1):
        """Wait for a line of the log."""
        until_true(lambda: len(self.lines(message)) >= times or self.process.poll() is not None, 60)
        assert len(self.lines(message)) >= times, self.log.read_text()[-2000:]

    def workers(self):
        """Process ids of the workers, by number."""
        found = {}
        own = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in own.read_text().split():
            with contextlib.suppress(OSError):
                for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                    if word.startswith("--worker="):
                        found[int(word.removeprefix("--worker=").split(":")[0])] = int(pid)
        return found

    def end(self, number=signal.SIGTERM, seconds=60):
        """Send a signal and wait; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()  # workers end with it
            self.process.wait()
