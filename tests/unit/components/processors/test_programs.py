"""command and subprocess."""

import asyncio
import os
from pathlib import Path

import pytest

from kit.chains import errors, message, processors, shown
from kit.waiting import eventually
from openmeter_collector.cli.registry import standard_registry
from openmeter_collector.config import load
from openmeter_collector.errors import ConfigError


@pytest.mark.parametrize("name", ["command", "subprocess"])
def test_programs_are_started_only_where_that_is_allowed(name):
    text = f"pipeline: {{processors: [{{{name}: {{name: cat}}}}]}}"
    with pytest.raises(ConfigError, match=r"is not allowed here: it starts programs.*--allow"):
        load(text, standard_registry())


async def test_a_command_gets_the_message_and_its_output_replaces_it():
    text = "- command: {name: '${! @program }', args_mapping: '[ \"-n\", this.n ]'}"
    async with processors(text) as opened:
        given = message('{"n":1}\n{"n":2}\n', metadata={"program": "head"})
        batches = await opened.run_batch([given])
        assert errors(batches)[0] is not None  # two documents are no JSON
        batches = await opened.run_batch([message('{"n":1}', metadata={"program": "head"})])
    assert shown(batches) == [['{"n":1}']]
    assert batches[0][0].metadata == {"program": "head", "exit_code": 0}


def sh(script, **options):
    more = "".join(f", {key}: {value}" for key, value in options.items())
    return f'- command: {{name: sh, args_mapping: \'["-c", "{script}"]\'{more}}}'


async def test_what_a_command_complains_about_is_in_the_metadata():
    async with processors(sh("cat; echo hm >&2")) as opened:
        ((one,),) = await opened.run("x")
    assert (one.content, one.metadata["command_stderr"], one.error) == (b"x", "hm\n", None)


@pytest.mark.parametrize(
    ("script", "options", "fault"),
    [
        ("echo why >&2; exit 3", {}, "execution error: exit status 3: why\n"),
        ("kill -9 $$", {}, "execution error: signal 9: "),
        ("sleep 60", {"timeout": "100ms"}, "execution error: it took longer than 0.1 s"),
        ("yes", {"max_output": "1KiB"}, "execution error: it wrote more than 1024 bytes"),
        ("yes >&2", {"max_output": "1KiB"}, "execution error: it wrote more than 1024 bytes"),
    ],
)
async def test_a_command_that_fails_leaves_its_message_flagged(script, options, fault):
    async with processors(sh(script, **options)) as opened:
        batches = await opened.run("x", "y" * 1_000_000)
    assert [len(one.content) for one in batches[0]] == [1, 1_000_000]
    assert errors(batches) == [fault, fault]


async def test_a_command_that_is_not_there_or_gets_no_list_is_a_failure_of_the_message():
    async with processors("- command: {name: no-such-program}") as opened:
        assert "cannot be started: No such file" in errors(await opened.run("x"))[0]
    async with processors("- command: {name: cat, args_mapping: '\"-n\"'}") as opened:
        assert "args_mapping gave no array" in errors(await opened.run("x"))[0]


async def test_what_a_command_started_ends_with_it(tmp_path):
    where = tmp_path / "pid"
    async with processors(sh(f"sleep 60 & echo $! > {where}; wait", timeout="300ms")) as opened:
        await opened.run("x")
    pid = int(where.read_text())

    def gone():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with Path(f"/proc/{pid}/stat").open() as stat:
            return stat.read().split()[2] == "Z"

    await eventually(gone)


async def test_a_subprocess_answers_line_by_line_and_keeps_running():
    async with processors("- subprocess: {name: sed, args: ['-u', 's/a/b/; =']}") as opened:
        # `=` numbers the lines, as only one process for all can do.
        assert shown(await opened.run("x")) == [["1"]]
    async with processors("- subprocess: {name: sed, args: ['-u', 's/a/b/']}") as opened:
        assert shown(await opened.run("a", "a\na", "", "a\n")) == [["b", "b\nb", "", "b\n"]]


@pytest.mark.parametrize("codec", ["length_prefixed_uint32_be", "netstring"])
async def test_binary_messages_have_codecs(codec):
    text = f"- subprocess: {{name: cat, codec_send: {codec}, codec_recv: {codec}}}"
    async with processors(text) as opened:
        ((one, two),) = await opened.run(b"\x00\n\xff", b"")
    assert (one.content, two.content) == (b"\x00\n\xff", b"")


PICKY = (
    "while read -r line; do case $line in"
    " bad) echo sorry >&2;; end) exit 0;; long) echo 123456789;; hang) sleep 60;;"
    " *) echo $line $$;; esac; done"
)


async def test_what_a_subprocess_cannot_do_costs_one_message():
    text = f"- subprocess: {{name: sh, args: ['-c', '{PICKY}'], max_buffer: 8, timeout: 300ms}}"
    async with processors(text.replace("$$", "")) as opened:
        made = [
            await opened.run(word)
            for word in ("a", "bad", "b", "end", "c", "long", "d", "hang", "e")
        ]
    flat = [(one.content.decode(), str(one.error or "")) for ((one,),) in made]
    assert [text for text, fault in flat if not fault] == ["a", "b", "c", "d", "e"]
    assert [fault for _, fault in flat if fault] == [
        "sorry",
        "the program ended",
        "the program's answer cannot be read: it is longer than max_buffer (8)",
        "the program did not answer within 0.3 s",
    ]
    assert [text for text, fault in flat if fault] == ["bad", "end", "long", "hang"]


async def test_a_subprocess_that_cannot_be_started_is_a_fault_of_the_config():
    with pytest.raises(ConfigError, match="'no-such-program' cannot be started"):
        async with processors("- subprocess: {name: no-such-program}"):
            pass


async def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_another():
    slow = "while read -r line; do sleep 0.3; echo $line; done"
    async with processors(f"- subprocess: {{name: sh, args: ['-c', '{slow}']}}") as opened:
        asking = asyncio.create_task(opened.run("a"))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait({asking})
        assert shown(await opened.run("b")) == [["b"]]


async def test_messages_of_concurrent_batches_do_not_mix():
    async with processors("- subprocess: {name: cat}") as opened:
        made = await asyncio.gather(*[opened.run(str(n)) for n in range(20)])
    assert [shown(one) for one in made] == [[[str(n)]] for n in range(20)]
