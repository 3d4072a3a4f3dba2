"""kill -9 while a file is followed that grows and is rotated: every line once, with one id."""

import json
import threading
import time

import pytest
from lives import Lives

CONFIG = """
input:
  file:
    paths: [ "{folder}/app.log*" ]
    follow: true
    poll_interval: 20ms
pipeline:
  processors:
    - mapping: |
        root.id = meta("file_id")
        root.line = content().string()
"""
ROUNDS = 6


class Writer(threading.Thread):
    """Appends numbered lines, and rotates now and then."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self._path = folder / "app.log"
        self._ended = threading.Event()
        self.written = 0

    def run(self):
        rotations = 0
        while not self._ended.is_set():
            with self._path.open("a") as file:
                for _ in range(300):
                    file.write(f"line {self.written}\n")
                    self.written += 1
                    if self.written % 50 == 0:
                        file.flush()
                        time.sleep(0.01)
            self._path.rename(self._path.with_suffix(f".log.{rotations}"))
            rotations += 1

    def end(self):
        self._ended.set()
        self.join()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_every_line_arrives_once_whenever_the_collector_is_killed(tmp_path, capsys):
    lives = Lives(tmp_path, CONFIG.format(folder=tmp_path))
    writer = Writer(tmp_path)
    writer.start()
    try:
        for _ in range(ROUNDS):
            before = len(lives.sink.got)
            lives.one(0.5, lambda before=before: len(lives.sink.got) > before)
    finally:
        writer.end()
    early = len(lives.sink.got)
    lives.last(lambda: len(lives.sink.got) >= writer.written)
    lines = sorted(json.loads(copies[0])["line"] for copies in lives.sink.got.values())
    with capsys.disabled():
        print(
            f"\n  file, {lives.killed} kills: {early} lines delivered before the last life, "
            f"{len(lines)} in all, {lives.repeated()} repeated",
            end="",
        )
    assert lines == sorted(f"line {number}" for number in range(writer.written))
