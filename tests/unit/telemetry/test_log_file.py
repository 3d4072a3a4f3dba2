"""Log files: appended to, put aside, forgotten."""

import os

from openmeter_collector.telemetry.log_file import LogFile


def test_lines_are_appended_to_what_is_there(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("old\n")
    file = LogFile(path)
    file.write("new \udc80\n")
    file.close()
    assert path.read_text() == "old\nnew \\udc80\n"


def test_a_file_is_put_aside_when_it_has_grown_and_forgotten_after_its_days(tmp_path):
    path = tmp_path / "a.log"
    ancient = tmp_path / "a-2020-01-01T00-00-00.000.log"
    ancient.write_text("x")
    os.utime(ancient, (1e9, 1e9))
    other = tmp_path / "b-2020.log"
    other.write_text("x")
    os.utime(other, (1e9, 1e9))
    later = other.stat().st_ctime
    file = LogFile(path, rotate=True, max_age_days=1, most_bytes=10, now=lambda: later)
    for line in ("12345\n", "1234\n", "123\n", "a line of its own that is too long\n", "1\n"):
        file.write(line)
    file.close()
    assert path.read_text() == "1\n"
    aside = {one.read_text() for one in tmp_path.glob("a-*.log")}
    assert aside == {"12345\n", "1234\n123\n", "a line of its own that is too long\n"}
    assert other.exists()


def test_without_rotation_a_file_grows(tmp_path):
    file = LogFile(tmp_path / "a.log", most_bytes=5)
    file.write("12345\n")
    file.write("12345\n")
    file.close()
    assert len(list(tmp_path.iterdir())) == 1
