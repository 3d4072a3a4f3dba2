"""The playground for mappings: results, places of errors, and who may ask."""

import json
import re
from importlib import resources

import pytest

from openmeter_collector.admin.playground import Playground, attempt
from openmeter_collector.testing.env import ask

DOCUMENT = '{"a": 1.0, "b": "x"}'
OURS = {"Host": "127.0.0.1:4195"}


@pytest.mark.parametrize(
    ("mapping", "result", "note"),
    [
        ("root.c = this.a", '{\n  "c": 1.0\n}', ""),
        ("root = deleted()", "", "The message is dropped."),
        ('meta k = "v"', DOCUMENT, "The content is unchanged."),
        ("root = this.b", "x", "The content is text, not JSON."),
    ],
)
def test_a_result_is_shown_as_it_would_be_sent(mapping, result, note):
    made = attempt(DOCUMENT, mapping)
    assert (made["result"], made["note"]) == (result, note)


def test_metadata_is_shown_when_it_was_changed():
    assert attempt("{}", 'meta n = {"a": 1}\nmeta t = "x"')["metadata"] == {
        "n": '{"a":1}', "t": "x",
    }  # fmt: skip
    assert attempt("{}", "root = 1")["metadata"] is None


@pytest.mark.parametrize(
    ("document", "mapping", "stage", "line", "column"),
    [
        ("{}", "root.a = 1\nroot.b = nope()", "parse", 2, 16),
        (DOCUMENT, "root.a = 1\nroot.b = this.a.uppercase()", "run", 2, 10),
        ("not json", "root = this", "run", 1, 8),
    ],
)
def test_an_error_has_its_place(document, mapping, stage, line, column):
    made = attempt(document, mapping)
    assert (made["stage"], made["line"], made["column"]) == (stage, line, column)
    assert "^---" in made["shown"]


def body(document, mapping):
    return json.dumps({"document": document, "mapping": mapping}).encode()


async def test_the_page_and_what_it_asks():
    app = Playground(frozenset({"127.0.0.1"}), document="{}", mapping="root = 1")
    page = await ask(app, "GET", "/", headers=OURS)
    assert page.status == 200
    assert b"playground.css" in page.body
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    start = await ask(app, "GET", "/start", headers=OURS)
    assert json.loads(start.body) == {"document": "{}", "mapping": "root = 1"}
    headers = OURS | {"Content-Type": "application/json", "Origin": "http://127.0.0.1:4195"}
    made = await ask(app, "POST", "/attempt", body("{}", "root = 1"), headers)
    assert json.loads(made.body)["result"] == "1"
    assert (await ask(app, "GET", "/etc/passwd", headers=OURS)).status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:4195"}, 403),
        ({}, 403),
        (OURS | {"Origin": "http://evil.example"}, 403),
        (OURS | {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_pages_from_elsewhere_cannot_ask(headers, status):
    """Under a name of their own for this address (rebinding), or with a form."""
    app = Playground(frozenset({"127.0.0.1"}))
    headers = {"Content-Type": "application/json"} | headers
    made = await ask(app, "POST", "/attempt", body("{}", "root = 1"), headers)
    assert made.status == status


async def test_bad_requests_are_refused():
    app = Playground(frozenset({"127.0.0.1"}))
    headers = OURS | {"Content-Type": "application/json"}
    assert (await ask(app, "POST", "/attempt", b"x", headers)).status == 400
    assert (await ask(app, "POST", "/attempt", b'{"document": 1}', headers)).status == 400
    assert (await ask(app, "POST", "/attempt", b" " * (5 << 20), headers)).status == 413


async def test_changes_are_written_where_that_is_wanted():
    written = []

    def write(document, mapping):
        written.append((document, mapping))
        if mapping == "root = 2":
            raise OSError(28, "No space left on device")

    app = Playground(frozenset({"127.0.0.1"}), write=write)
    headers = OURS | {"Content-Type": "application/json"}
    await ask(app, "POST", "/attempt", body("{}", "root = 1"), headers)
    made = await ask(app, "POST", "/attempt", body("{}", "root = 2"), headers)
    assert written == [("{}", "root = 1"), ("{}", "root = 2")]
    assert json.loads(made.body)["unsaved"] == "not written: No space left on device"


def test_the_page_asks_no_other_host_and_has_no_inline_code():
    folder = resources.files("openmeter_collector.admin") / "static"
    for name in ("playground.html", "playground.js", "page.js", "playground.css"):
        text = (folder / name).read_text()
        assert not re.search(r"https?://|//[a-z]+\.|url\(|innerHTML|eval\(", text), name
    html = (folder / "playground.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|style=|\son[a-z]+=", html)
