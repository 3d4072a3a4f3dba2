"""grok and parse_log."""

import json

import pytest

from kit.chains import errors, processors, shown
from openmeter_collector.components.processors.grok_patterns import PATTERNS
from openmeter_collector.errors import ConfigError


def grok(*expressions, **fields):
    return "- grok: " + json.dumps({"expressions": list(expressions), **fields})


async def parsed(text, *lines):
    async with processors(text) as opened:
        batches = await opened.run(*lines)
    assert errors(batches) == [None] * len(lines), errors(batches)
    (made,) = shown(batches)
    return [json.loads(one) for one in made]


VPC = (
    "%{NUMBER:version:int} %{NUMBER:accountid} %{NOTSPACE:interfaceid} %{NOTSPACE:srcaddr} "
    "%{NOTSPACE:dstaddr} %{NOTSPACE:srcport:int} %{NOTSPACE:dstport:int} %{NOTSPACE:protocol:int} "
    "%{NOTSPACE:packets:int} %{NOTSPACE:bytes:int} %{NUMBER:start:int} %{NUMBER:end:int} "
    "%{NOTSPACE:action} %{NOTSPACE:logstatus}"
)
FLOW = (
    "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 "
    "1418530010 1418530070 ACCEPT OK"
)


async def test_a_flow_log_becomes_an_object_with_types():
    text = grok("%{VPCFLOWLOG}", pattern_definitions={"VPCFLOWLOG": VPC})
    (made,) = await parsed(text, FLOW)
    assert made == {
        "accountid": "123456789010", "action": "ACCEPT", "bytes": 4249, "dstaddr": "172.31.16.21",
        "dstport": 22, "end": 1418530070, "interfaceid": "eni-1235b8ca123456789",
        "logstatus": "OK", "packets": 20, "protocol": 6, "srcaddr": "172.31.16.139",
        "srcport": 20641, "start": 1418530010, "version": 2,
    }  # fmt: skip


async def test_the_first_expression_that_finds_a_value_is_taken():
    text = grok("^%{INT:n:int}$", "^%{WORD:w}$")
    assert await parsed(text, "5", "x") == [{"n": 5}, {"w": "x"}]


async def test_a_value_that_is_not_of_its_type_lets_the_next_expression_try():
    text = grok("%{WORD:n:int}", "%{WORD:w}")
    assert await parsed(text, "7", "x") == [{"n": 7}, {"w": "x"}]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "-12", -12),
        ("int", "9" * 18, 10**18 - 1),
        ("float", "1.50", 1.5),
        ("float", "1e3", 1000),
        ("bool", "T", True),
        ("string", "12", "12"),
    ],
)
async def test_types_are_respected(kind, text, value):
    assert await parsed(grok(f"^%{{NOTSPACE:v:{kind}}}$"), text) == [{"v": value}]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "1_000"), ("int", "9" * 25), ("int", "\u0661"), ("float", "nan"), ("float", "1e999"),
     ("bool", "yes")],
)  # fmt: skip
async def test_what_is_not_of_its_type_is_not_made_to_fit(kind, text):
    async with processors(grok(f"^%{{NOTSPACE:v:{kind}}}$")) as opened:
        (error,) = errors(await opened.run(text))
    assert error == f"no pattern matches found: a value that should be of type {kind} is not"


async def test_a_number_that_is_not_there_is_null_not_zero():
    text = grok("(?:%{INT:n:int})?-%{WORD:w}", remove_empty_values=False)
    assert await parsed(text, "-x") == [{"n": None, "w": "x"}]


async def test_dots_make_objects_and_groups_of_regular_expressions_count_too():
    made = await parsed(grok(r"%{INT:a.b:int} %{NUMBER:a.c:float} (?P<d>\w)"), "1 2.5 x")
    assert made == [{"a": {"b": 1, "c": 2.5}, "d": "x"}]


async def test_what_has_no_name_is_kept_under_its_patterns_when_asked():
    text = grok("%{INT} %{WORD:w}", named_captures_only=False)
    assert await parsed(text, "5 x") == [{"INT": "5", "w": "x"}]


async def test_empty_values_are_left_out_unless_asked_for():
    expression = "(?:%{INT:n})?-%{WORD:w}"
    assert await parsed(grok(expression), "-x") == [{"w": "x"}]
    assert await parsed(grok(expression, remove_empty_values=False), "-x") == [{"n": "", "w": "x"}]


async def test_lines_that_fit_nothing_stay_flagged():
    async with processors(grok("^%{INT:n}$")) as opened:
        batches = await opened.run("x", "5")
    assert shown(batches) == [["x", '{"n":"5"}']]
    assert errors(batches) == ["no pattern matches found", None]


async def test_patterns_come_from_files_folders_and_globs(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_text("# mine\nORDER order-[0-9]+\n\n")
    (tmp_path / "deep" / "b").write_text("BOTH %{ORDER:order} for %{WORD:who}\n")
    for paths in ([str(tmp_path), f"{tmp_path}/deep/b"], [f"{tmp_path}/**"]):
        made = await parsed(grok("%{BOTH}", pattern_paths=paths), "order-7 for me")
        assert made == [{"order": "order-7", "who": "me"}]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"expressions": ["%{NO:x}"]}, "there is no pattern 'NO'"),
        ({"expressions": ["%{WORD:x}"], "use_default_patterns": False}, "no pattern 'WORD'"),
        ({"expressions": ["%{A}"], "pattern_definitions": {"A": "%{B}", "B": "%{A}"}}, "of itself"),
        (
            {"expressions": ["%{INT:n:money}"]},
            "there is no type 'money'; use one of string, int, float, bool",
        ),
        ({"expressions": ["(?=x)"]}, "is none of RE2: .*lookaround"),
        (
            {"expressions": ["x"], "pattern_paths": ["/no/such/folder/*"]},
            "there is no file '/no/such",
        ),
    ],
)
async def test_an_expression_that_cannot_be_used_is_a_fault_of_the_config(fields, fault):
    with pytest.raises(ConfigError, match=fault):
        async with processors("- grok: " + json.dumps(fields)):
            pass


async def test_time_is_linear_whatever_comes():
    """An expression on which a backtracking engine takes longer than the universe."""
    async with processors(grok("^(a|a)*(a|aa)*(a|a?)*b(?P<x>.)$")) as opened:
        batches = await opened.run("a" * 10_000)
    assert errors(batches) == ["no pattern matches found"]


SAMPLES = {
    "IP": ["127.0.0.1", "::1", "2001:db8::8a2e:370:7334", "::ffff:10.0.0.1", "fe80::"],
    "MAC": ["00:1B:44:11:3A:B7", "00-1B-44-11-3A-B7", "001b.4411.3ab7"],
    "HOSTPORT": ["example.com:80", "10.0.0.1:443"],
    "EMAILADDRESS": ["me.and+you@mail.example.com"],
    "UUID": ["5e2f6f0e-8d4a-4f0a-9a52-0c0c6a3a9b11"],
    "QS": ['"a \\" b"', "'x'"],
    "URI": ["https://user:x@example.com:8080/a/b?c=d&e=%20", "s3://bucket/key"],
    "PATH": ["/var/log/x-1.log", "C:\\a\\b.txt"],
    "TIMESTAMP_ISO8601": ["2024-02-29T23:59:60.5+01:00", "2024-02-29 23:59"],
    "HTTPDATE": ["10/Oct/2000:13:55:36 -0700"],
    "SYSLOGTIMESTAMP": ["Oct 11 22:14:15", "Oct  1 22:14:15"],
    "DATESTAMP_RFC2822": ["Mon, 25 Dec 2023 10:00:00 +0100"],
    "DATE": ["12/31/2023", "31.12.2023", "2023/12/31"],
    "LOGLEVEL": ["WARN", "information", "Err"],
    "BASE16NUM": ["0xdeadBEEF", "-ff"],
    "NUMBER": ["-1.5", "12", ".5"],
    "BOOLEAN": ["true", "FALSE"],
}
STRANGERS = {
    "IP": ["256.1.1.1", "1.2.3", "12345::", "g::1"],
    "MAC": ["00:1B:44:11:3A"],
    "UUID": ["5e2f6f0e-8d4a"],
    "TIMESTAMP_ISO8601": ["2024-13-01T00:00:00"],
    "HTTPDATE": ["10 Oct 2000"],
    "NUMBER": ["x", "."],
    "LOGLEVEL": ["loud"],
    "URI": ["/a/b"],
}


@pytest.mark.parametrize("name", SAMPLES)
async def test_patterns_match_what_they_are_called(name):
    made = await parsed(grok(f"^%{{{name}:v}}$"), *SAMPLES[name])
    assert [one["v"] for one in made] == SAMPLES[name]


@pytest.mark.parametrize("name", STRANGERS)
async def test_patterns_match_nothing_else(name):
    async with processors(grok(f"^%{{{name}:v}}$")) as opened:
        batches = await opened.run(*STRANGERS[name])
    assert [one is not None for one in errors(batches)] == [True] * len(STRANGERS[name])


async def test_all_patterns_compile():
    async with processors(grok(*[f"%{{{name}:v}}" for name in PATTERNS])) as opened:
        assert opened.chain.sync


async def test_access_logs_are_taken_apart():
    line = (
        '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif?b=c HTTP/1.0" 200 2326 '
        '"http://www.example.com/start.html" "Mozilla/4.08 [en]"'
    )
    (made,) = await parsed(grok("%{COMBINEDAPACHELOG}"), line)
    assert made == {
        "clientip": "127.0.0.1", "ident": "-", "auth": "frank", "verb": "GET",
        "timestamp": "10/Oct/2000:13:55:36 -0700", "request": "/a.gif?b=c", "httpversion": "1.0",
        "response": "200", "bytes": "2326", "referrer": '"http://www.example.com/start.html"',
        "agent": '"Mozilla/4.08 [en]"',
    }  # fmt: skip


async def test_error_logs_of_httpd_are_taken_apart_in_both_forms():
    old = "[Wed Oct 11 14:32:52 2000] [error] [client 127.0.0.1] denied by rule"
    new = (
        "[Wed Oct 11 14:32:52.123456 2000] [core:error] [pid 35708:tid 4328636416] "
        "[client 72.15.99.187:5000] AH00128: File does not exist: /x"
    )
    first, second = await parsed(grok("^(?:%{HTTPD_ERRORLOG})$"), old, new)
    assert (first["clientip"], first["loglevel"], first["errormsg"]) == (
        "127.0.0.1", "error", "denied by rule",
    )  # fmt: skip
    assert second == {
        "timestamp": "Wed Oct 11 14:32:52.123456 2000", "module": "core", "loglevel": "error",
        "pid": "35708", "tid": "4328636416", "client": "72.15.99.187", "clientport": "5000",
        "errorcode": "AH00128", "message": "File does not exist: /x",
    }  # fmt: skip


RFC5424 = (
    "<165>1 2003-10-11T22:14:15.003000-07:00 mymachine.example.com evntslog 12 ID47 "
    '[exampleSDID@32473 iut="3" eventSource="App\\"lication"][b c="\\]"] An application event'
)


async def test_rfc5424_lines_are_taken_apart():
    (made,) = await parsed("- parse_log: {format: syslog_rfc5424}", RFC5424)
    assert made == {
        "priority": 165, "facility": 20, "severity": 5, "version": 1,
        "timestamp": "2003-10-11T22:14:15.003-07:00", "hostname": "mymachine.example.com",
        "appname": "evntslog", "procid": "12", "msgid": "ID47", "message": "An application event",
        "structureddata": {
            "exampleSDID@32473": {"iut": "3", "eventSource": 'App"lication'}, "b": {"c": "]"},
        },
    }  # fmt: skip


async def test_what_a_line_does_not_say_is_left_out():
    (made,) = await parsed("- parse_log: {format: syslog_rfc5424}", "<0>2 - - - - - -")
    assert made == {"priority": 0, "facility": 0, "severity": 0, "version": 2}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("<34>1 nonsense", {"priority", "facility", "severity", "version"}),
        ("<34>1 2003-02-30T00:00:00Z h a p m -", {"priority", "facility", "severity", "version"}),
        ("<34>1 - h a p m [x", {"priority", "facility", "severity", "version", "hostname",
                                 "appname", "procid", "msgid"}),
        ("<34>1 - h", {"priority", "facility", "severity", "version"}),
    ],
)  # fmt: skip
async def test_best_effort_keeps_what_was_read(line, kept):
    (made,) = await parsed("- parse_log: {format: syslog_rfc5424}", line)
    assert set(made) == kept
    async with processors("- parse_log: {format: syslog_rfc5424, best_effort: false}") as opened:
        batches = await opened.run(line)
    assert shown(batches) == [[line]]
    assert "expected" in errors(batches)[0]


@pytest.mark.parametrize("line", ["no syslog", "<999>1 - - - - - -", "<34>x", "<192>1 - - - - - -"])
@pytest.mark.parametrize("form", ["syslog_rfc5424", "syslog_rfc3164"])
async def test_best_effort_needs_a_beginning(line, form):
    async with processors(f"- parse_log: {{format: {form}}}") as opened:
        batches = await opened.run(line)
    if (line, form) == ("<34>x", "syslog_rfc3164"):
        assert shown(batches) == [['{"facility":4,"priority":34,"severity":2}']]
    else:
        assert errors(batches) != [None]


RFC3164 = "<34>Oct 11 22:14:15 mymachine su[7]: 'su root' failed for me"


@pytest.mark.parametrize(
    ("fields", "timestamp"),
    [
        ("", "1970-10-11T22:14:15Z"),  # the tests' clock stands in 1970
        (", default_year: '2003'", "2003-10-11T22:14:15Z"),
        (", default_year: 2003, default_timezone: America/New_York", "2003-10-11T22:14:15-04:00"),
        (", default_year: ''", "0000-10-11T22:14:15Z"),
    ],
)
async def test_rfc3164_times_get_a_year_and_a_zone(fields, timestamp):
    (made,) = await parsed(f"- parse_log: {{format: syslog_rfc3164{fields}}}", RFC3164)
    assert made == {
        "priority": 34, "facility": 4, "severity": 2, "timestamp": timestamp,
        "hostname": "mymachine", "appname": "su", "procid": "7",
        "message": "'su root' failed for me",
    }  # fmt: skip


async def test_rfc3164_lines_may_have_times_of_rfc3339_and_no_tag():
    line = "<13>2003-08-24T05:14:15.000003-07:00 host  no tag here\n"
    (made,) = await parsed("- parse_log: {format: syslog_rfc3164}", line)
    assert made["timestamp"] == "2003-08-24T05:14:15.000003-07:00"
    assert (made["message"], "appname" in made) == (" no tag here", False)
    text = "- parse_log: {format: syslog_rfc3164, allow_rfc3339: false, best_effort: false}"
    async with processors(text) as opened:
        assert "a time such as" in errors(await opened.run(line))[0]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [("default_year: twenty", "is no year"), ("default_timezone: Mars/Olympus", "no time zone")],
)
async def test_a_year_or_zone_that_is_none_is_refused(fields, fault):
    with pytest.raises(ConfigError, match=fault):
        async with processors(f"- parse_log: {{format: syslog_rfc3164, {fields}}}"):
            pass
