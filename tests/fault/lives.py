"""Lives of a collector that reads a source, each ended by force but the last."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sink import Sink, wait_for

REST = """
logger: {{level: warn}}
http: {{enabled: false}}
shutdown_timeout: 10s
buffer:
  sqlite: {{path: "{folder}/buffer.db", min_free_bytes: 1MiB}}
output:
  openmeter:
    url: {url}
    batching: {{count: 200}}
"""


class Lives:
    """A config run again and again on one journal, in front of one sink.

    Attributes:
        killed: lives that were ended by force.
    """

    def __init__(self, folder, config, **env):
        self.folder = folder
        self.sink = Sink()
        self.killed = 0
        self._env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | env
        self._path = folder / "config.yaml"
        self._path.write_text(config + REST.format(folder=folder, url=self.sink.url))

    def start(self):
        """Start the process."""
        return subprocess.Popen(
            [sys.executable, "-m", "openmeter_collector.cli.main", "run", "-c", str(self._path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self._env,
            cwd=self.folder,
        )

    def one(self, most, ready=lambda: True, chance=random):
        """A life that is killed at a random moment, at most `most` seconds after `ready`."""
        process = self.start()
        try:
            wait_for(lambda: ready() or process.poll() is not None, what="a ready collector")
            time.sleep(chance.random() * most)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, (
            f"it ended by itself: {output.decode()[-800:]}"
        )
        self.killed += 1

    def last(self, done, seconds=60, meanwhile=lambda process: None):
        """A life that goes on until `done`, and is stopped in order."""
        process = self.start()
        try:
            meanwhile(process)
            wait_for(
                lambda: done() or process.poll() is not None, seconds, "delivery of everything"
            )
            # Lives before this one may have delivered everything; this one has hardly begun then.
            wait_for(
                lambda: _heeds(process) or process.poll() is not None, what="a process that heeds"
            )
            process.send_signal(signal.SIGTERM)
        except BaseException:
            process.kill()
            raise
        finally:
            output, _ = process.communicate(timeout=30)
            self.sink.close()
        assert process.returncode == 0, f"it did not stop in order: {output.decode()[-800:]}"

    def repeated(self):
        """How many deliveries were of something that had been delivered."""
        return sum(len(copies) - 1 for copies in self.sink.got.values())


def _heeds(process):
    """Whether it has come to the point where SIGTERM ends it in order."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines()
        caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    except OSError:  # not on Linux
        return True
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
