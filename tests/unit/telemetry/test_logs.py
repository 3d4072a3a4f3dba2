"""Log lines: logfmt and JSON, levels, and names that an operator chose."""

import orjson
import pytest

from openmeter_collector.telemetry.logs import Log, LogOptions


def logged(options: LogOptions, act) -> list[str]:
    lines: list[str] = []
    act(Log(options, lines.append))
    return lines


def test_logfmt_quotes_what_needs_it():
    options = LogOptions(add_timestamp=False, static_fields={"@service": "x"})
    lines = logged(options, lambda log: log.bind(path="root.input").info("began", why='a "b"', n=1))
    assert lines == ['level=info msg=began @service=x path=root.input why="a \\"b\\"" n=1\n']


def test_json_uses_the_names_that_were_chosen():
    options = LogOptions(
        format="json", level_name="severity", message_name="message", timestamp_name="at"
    )
    (line,) = logged(options, lambda log: log.error("broke", error="x"))
    found = orjson.loads(line)
    assert found["severity"] == "error"
    assert found["message"] == "broke"
    assert found["at"].endswith("Z")


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", 4), ("INFO", 3), ("warn", 2), ("error", 1), ("FATAL", 0), ("off", 0), ("NONE", 0)],
)
def test_lines_below_the_level_are_not_written(level, written):
    def act(log: Log) -> None:
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")

    assert len(logged(LogOptions(level=level), act)) == written


def test_a_line_is_one_line_whatever_is_in_it():
    """Or somebody's data could write log lines of its own."""
    for form in ("logfmt", "json"):
        (line,) = logged(LogOptions(format=form), lambda log: log.info("x", y="a\nlevel=error b"))
        assert line.count("\n") == 1


def test_fields_of_the_moment_are_on_every_line_also_of_logs_bound_before():
    def act(log: Log) -> None:
        bound = log.bind(part="x")
        log.context.fields = lambda: {"trace_id": "t", "part": "never instead of a log's own"}
        bound.info("in")
        log.context.fields = None
        bound.info("out")

    inside, outside = map(orjson.loads, logged(LogOptions(format="json"), act))
    assert (inside["trace_id"], inside["part"]) == ("t", "x")
    assert "trace_id" not in outside
