"""The playground for mappings: results, places of errors, bounds, and who may ask."""

import asyncio
import json
import os
import re
import sys
from importlib import resources
from pathlib import Path

import pytest

from openmeter_collector.admin.attempt import Asked, Reach, attempted
from openmeter_collector.admin.playground import Offers, Playground
from openmeter_collector.admin.trials import Busy, Trials
from openmeter_collector.testing.env import ask

DOCUMENT = '{"a": 1.0, "b": "x"}'
OURS = {"Host": "127.0.0.1:4195"}
JSON = OURS | {"Content-Type": "application/json"}
HERE = frozenset({"127.0.0.1"})


def attempt(document, mapping, **how):
    made = attempted(Asked(document, mapping, **how))
    return made if "error" in made else made["messages"][0]


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


def test_a_mutation_begins_with_the_document():
    made = attempt('{"a":1}', "root.b = 2", mode="mutation")
    assert json.loads(made["result"]) == {"a": 1, "b": 2}
    assert attempt('{"a":1}', "root.b = 2")["result"] == '{\n  "b": 2\n}'


def test_lines_are_messages_of_one_batch_each_with_its_metadata():
    asked = Asked(
        '{"n":1}\n\n{"n":2}\nnot json\n',
        'root = if this.n == 2 { deleted() } else { {"n": this.n, "k": @key, "at": batch_index()} }',
        lines=True,
        metadata='[{"key":"a"},{"key":"b"},{"key":"c"}]',
    )
    first, second, third = attempted(asked)["messages"]
    assert json.loads(first["result"]) == {"n": 1, "k": "a", "at": 0}
    assert second["dropped"]
    assert (third["stage"], third["line"]) == ("run", 1)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"metadata": "{"}, "no JSON"),
        ({"metadata": "[1]"}, "no object"),
        ({"metadata": "[{},{}]"}, "one object for each"),
    ],
)
def test_what_was_asked_wrongly_is_said(how, told):
    made = attempt("{}", "root = 1", **how)
    assert made["stage"] == "ask"
    assert told in made["error"]
    too_many = attempt("{}\n" * 1001, "root = 1", lines=True)
    assert "more than 1000 lines" in too_many["error"]


def body(document, mapping, **more):
    return json.dumps({"document": document, "mapping": mapping, **more}).encode()


async def test_the_page_and_what_it_asks():
    app = Playground(HERE, Offers(document="{}", mapping="root = 1"))
    page = await ask(app, "GET", "/", headers=OURS)
    assert page.status == 200
    assert b"playground.css" in page.body
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    start = json.loads((await ask(app, "GET", "/start", headers=OURS)).body)
    assert (start["document"], start["mapping"]) == ("{}", "root = 1")
    headers = JSON | {"Origin": "http://127.0.0.1:4195"}
    made = await ask(app, "POST", "/attempt", body("{}", "root = 1"), headers)
    assert json.loads(made.body)["messages"][0]["result"] == "1"
    for path in ("/mappings", "/events"):
        assert json.loads((await ask(app, "GET", path, headers=OURS)).body) == []
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
    written = []
    app = Playground(HERE, Offers(add_test=written.append))
    headers = {"Content-Type": "application/json"} | headers
    wanted = {"name": "n", "processors": "tidy"}
    case = json.dumps({"asked": {"document": "", "mapping": ""}, "wanted": wanted}).encode()
    for path, content in (
        ("attempt", body("{}", "root = 1")),
        ("case", case),
        ("write-case", case),
    ):
        assert (await ask(app, "POST", f"/{path}", content, headers)).status == status
    if status == 403:
        for path in ("/", "/start", "/mappings", "/events"):
            assert (await ask(app, "GET", path, headers=headers)).status == status
    assert written == []


async def test_bad_requests_are_refused():
    app = Playground(HERE)
    for path, content, status in (
        ("/attempt", b"x", 400),
        ("/attempt", b'{"document": 1}', 400),
        ("/attempt", b'{"document": "", "mapping": "", "mode": "other"}', 400),
        ("/attempt", b" " * (5 << 20), 413),
        ("/case", b'{"asked": {"document": "", "mapping": ""}}', 400),
        ("/case", b'{"asked": 1, "wanted": {}}', 400),
        ("/write-case", b'{"asked": {"document": "", "mapping": ""}, "wanted": {}}', 404),
    ):
        assert (await ask(app, "POST", path, content, JSON)).status == status, content[:80]
    app = Playground(HERE, Offers(add_test=pytest.fail))
    content = b'{"asked": {"document": "", "mapping": ""}, "wanted": {"name": "n"}}'
    assert (await ask(app, "POST", "/write-case", content, JSON)).status == 400


async def test_changes_are_written_where_that_is_wanted():
    written = []

    def save(document, mapping):
        written.append((document, mapping))
        if mapping == "root = 2":
            raise OSError(28, "No space left on device")

    app = Playground(HERE, Offers(save=save))
    await ask(app, "POST", "/attempt", body("{}", "root = 1"), JSON)
    made = await ask(app, "POST", "/attempt", body("{}", "root = 2"), JSON)
    assert written == [("{}", "root = 1"), ("{}", "root = 2")]
    assert json.loads(made.body)["unsaved"] == "not written: No space left on device"


# ---- bounds ----------------------------------------------------------------------------------

FOR_EVER = "root = range(0, 3000).map_each(a -> range(0, 3000).map_each(b -> range(0, 3000).sum()).sum()).sum()"


def processes():
    """Those that this test has started and that are still there."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()


async def test_a_mapping_that_never_ends_is_ended():
    trials = Trials(Reach(), patience=0.3)
    before = processes()
    made = await trials.attempt({"document": "{}", "mapping": FOR_EVER})
    assert made["error"] == "no result within 0.3 s; the mapping was stopped"
    assert processes() == before, "nothing goes on behind it"
    made = await Trials(Reach(), patience=60).attempt({"document": "{}", "mapping": "root = 1"})
    assert made["messages"][0]["result"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is that of Linux")
@pytest.mark.parametrize(
    "mapping",
    [
        'root = range(0, 40).fold("x", item -> item.tally + item.tally)',
        "root = range(0, 100000).map_each(x -> range(0, 100).map_each(y -> [x, y]))",
    ],
)
async def test_a_mapping_that_wants_all_memory_gets_an_error(mapping):
    made = await Trials(Reach(), patience=60).attempt({"document": '{"a":"b"}', "mapping": mapping})
    text = made.get("error") or made["messages"][0]["error"]
    assert "memory" in text


async def test_a_mapping_that_nobody_waits_for_any_more_ends_by_itself():
    async with asyncio.timeout(120):
        made = await Trials(Reach(), patience=600).attempt({"document": "{}", "mapping": FOR_EVER})
    assert "the mapping was stopped" in made["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_the_process_of_a_mapping_has_nothing_of_our_environment(monkeypatch):
    monkeypatch.setenv("PLANTED", "canary")
    before = set(processes())
    trial = asyncio.create_task(Trials(Reach()).attempt({"document": "{}", "mapping": FOR_EVER}))
    while True:
        await asyncio.sleep(0.01)
        assert not trial.done()
        found = [Path(f"/proc/{one}") for one in set(processes()) - before]
        if found and b"trial_process" in (found[0] / "cmdline").read_bytes():
            break
    assert b"canary" not in (found[0] / "environ").read_bytes()
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)


async def test_an_outcome_that_is_too_large_is_not_sent():
    mapping = 'root = range(0, 200000).map_each(x -> "0123456789abcdefghij")'
    made = await Trials(Reach(), patience=60).attempt({"document": "{}", "mapping": mapping})
    assert "larger than" in made["error"]


async def test_only_some_are_tried_at_a_time_and_who_waits_is_told():
    trials = Trials(Reach(), patience=60)
    asked = {"document": "{}", "mapping": FOR_EVER}
    tried = [asyncio.create_task(trials.attempt(asked)) for _ in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await trials.attempt(asked)
    app = Playground(HERE, trials=trials)
    assert (await ask(app, "POST", "/attempt", body("{}", "root = 1"), JSON)).status == 503
    for task in tried:
        task.cancel()
    await asyncio.gather(*tried, return_exceptions=True)
    assert "messages" in await trials.attempt({"document": "{}", "mapping": "root = 1"})


async def test_a_mapping_reaches_environment_and_files_only_where_it_may(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", "canary")
    (tmp_path / "file.txt").write_text("canary")
    for mapping in ('root = env("PLANTED")', f'root = file("{tmp_path}/file.txt").string()'):
        asked = {"document": "{}", "mapping": mapping}
        assert "canary" not in json.dumps(await Trials(Reach(), patience=60).attempt(asked))
        assert "canary" in json.dumps(await Trials(Reach(outside=True), patience=60).attempt(asked))


async def test_plugins_can_be_tried(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text(
        "from openmeter_collector.bloblang import Value, method\n"
        "@method('x')\ndef twice(value: Value) -> Value:\n    '''Twice.'''\n    return value * 2\n"
    )
    trials = Trials(Reach(outside=True, plugins=(str(path),)), patience=60)
    made = await trials.attempt({"document": "4", "mapping": "root = this.twice()"})
    assert made["messages"][0]["result"] == "8"


def test_the_page_asks_no_other_host_and_has_no_inline_code():
    folder = resources.files("openmeter_collector.admin") / "static"
    for name in ("playground.html", "playground.js", "page.js", "playground.css"):
        text = (folder / name).read_text()
        assert not re.search(r"https?://|//[a-z]+\.|url\(|innerHTML|eval\(", text), name
    html = (folder / "playground.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|style=|\son[a-z]+=", html)
