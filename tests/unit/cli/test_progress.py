"""How far long work has come: nothing for short work, plain lines where nobody looks, a bar elsewhere."""

import io
import sys

import pytest

from openmeter_collector.cli import progress as module
from openmeter_collector.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_short_work_says_nothing(capsys, clock):
    with progress("letters put back", 10, clock=clock) as told:
        for _ in range(10):
            clock.now += 0.5
            told(1)
    assert capsys.readouterr() == ("", "")


def test_long_work_in_a_log_has_a_plain_line_now_and_then(capsys, clock):
    with progress("letters put back", 4_000, clock=clock) as told:
        for _ in range(4):
            clock.now += 10
            told(1_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "1,000 of 4,000 (25 %) letters put back, 100/s"
    assert len(err.splitlines()) == 4
    assert "\x1b" not in err


def test_what_is_not_known_in_advance_has_no_share(capsys, clock):
    with progress("events put in", clock=clock) as told:
        clock.now += 10
        told(50)
    assert capsys.readouterr().err == "50 events put in, 5/s\n"


def test_standard_error_that_is_for_a_program_stays_empty(capsys, clock):
    with progress("letters put back", silent=True, clock=clock) as told:
        clock.now += 100
        told(1)
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_it_is_a_bar_and_without_rich_plain_lines(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress("letters put back", 10) as told:
        told(5)
    assert "letters put back" in terminal.getvalue()
    assert "\x1b" in terminal.getvalue()

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    monkeypatch.setattr(sys, "stderr", plain := Terminal())
    with progress("letters put back", 10, clock=clock) as told:
        clock.now += 3
        told(5)
    assert plain.getvalue() == "5 of 10 (50 %) letters put back, 2/s\n"
