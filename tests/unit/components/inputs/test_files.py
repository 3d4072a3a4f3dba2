"""file, csv and stdin inputs."""

import asyncio
import gzip
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kit.pipes import REGISTRY, surroundings
from openmeter_collector.api import ConfigError, Retryable, Unreadable
from openmeter_collector.components.inputs import stdin
from openmeter_collector.config import InvalidConfig, load
from openmeter_collector.engine.environment import ComponentEnv, Resources


class Intake:
    """Takes deliveries and settles them as it is told."""

    def __init__(self, fates=()):
        self.fates = list(fates)
        self.messages = []

    async def put(self, delivery):
        self.messages += delivery.batch
        delivery.settle(self.fates.pop(0) if self.fates else None)

    @property
    def contents(self):
        return [message.content.decode() for message in self.messages]


async def run(text, fates=(), lines=None, around=None):
    config = load(text, REGISTRY, env={})
    around = around or surroundings(lines)
    env = ComponentEnv(around, Resources(), config.input)
    intake = Intake(fates)
    async with env.input(config.input) as opened:
        await opened.run(intake)
    return intake


async def test_files_are_read_in_order_with_where_they_are_from(tmp_path):
    (tmp_path / "1.txt").write_bytes(b"a\r\nb\n\nc")
    (tmp_path / "2.txt").write_bytes(b"d\n")
    os.utime(tmp_path / "1.txt", (1.5, 1_700_000_000.5))
    intake = await run(f"input: {{file: {{paths: ['{tmp_path}/*.txt']}}}}")
    assert intake.contents == ["a", "b", "", "c", "d"]
    assert dict(intake.messages[0].metadata) == {
        "path": str(tmp_path / "1.txt"),
        "mod_time_unix": 1_700_000_000,
        "mod_time": "2023-11-14T22:13:20Z",
    }


async def test_folders_below_are_read_and_a_file_that_fits_two_globs_once(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "1.txt").write_bytes(b"a\n")
    paths = f"['{tmp_path}/**/*.txt', '{tmp_path}/x/y/1.txt', '{tmp_path}/none*']"
    assert (await run(f"input: {{file: {{paths: {paths}}}}}")).contents == ["a"]


@pytest.mark.parametrize(
    ("codec", "data", "expected"),
    [
        ("lines", b"a\nb\n", ["a", "b"]),
        ("delim:X", b"aXb", ["a", "b"]),
        ("all-bytes", b"a\nb", ["a\nb"]),
        ("csv", b"n\n1\n", ['{"n":"1"}']),
        ("csv:;", b"n;m\n1;2\n", ['{"m":"2","n":"1"}']),
        ("csv-safe", b'n\n1"\n2\n', ["{}", '{"n":"2"}']),
        ("gzip/csv", gzip.compress(b"n\n1\n", mtime=0), ['{"n":"1"}']),
        ("gzip", gzip.compress(b"ab", mtime=0), ["ab"]),
        ("skipbom/lines", b"\xef\xbb\xbfa\nb", ["a", "b"]),
        ("chunker:2", b"abc", ["ab", "c"]),
        ("regex:(?m)^#", b"#a\n#b", ["#a\n", "#b"]),
        ("auto", b"n\n1\n", ['{"n":"1"}']),
    ],
)
async def test_codecs_are_older_words_for_scanners(tmp_path, codec, data, expected):
    (tmp_path / "1.csv").write_bytes(data)
    text = f"input: {{file: {{paths: ['{tmp_path}/1.csv'], codec: '{codec}'}}}}"
    assert (await run(text)).contents == expected


def test_a_codec_that_is_none_is_said():
    with pytest.raises(InvalidConfig, match="'gzop' is no codec"):
        load("input: {file: {paths: [x], codec: gzop}}", REGISTRY, env={})


async def test_a_file_is_deleted_when_it_is_safe_and_not_before(tmp_path):
    file = tmp_path / "1.txt"
    file.write_bytes(b"a\n")
    seen = []

    class Watching(Intake):
        async def put(self, delivery):
            seen.append(file.exists())
            await super().put(delivery)

    text = f"input: {{file: {{paths: ['{file}'], delete_on_finish: true}}}}"
    config = load(text, REGISTRY, env={})
    naps = asyncio.sleep
    around = surroundings(sleep=lambda seconds: naps(0))
    env = ComponentEnv(around, Resources(), config.input)
    intake = Watching([Retryable("no")])
    async with env.input(config.input) as opened:
        await opened.run(intake)
    assert seen == [True, True]
    assert not file.exists()


async def test_a_file_that_cannot_be_read_stays_and_costs_no_other(tmp_path):
    (tmp_path / "1.gz").write_bytes(gzip.compress(b"a\n" * 9)[:-6])
    (tmp_path / "2.gz").write_bytes(gzip.compress(b"b\n", mtime=0))
    around = surroundings(lines := [])
    text = f"""
input:
  file:
    paths: ['{tmp_path}/*.gz']
    delete_on_finish: true
    scanner: {{decompress: {{algorithm: gzip, into: {{lines: {{}}}}}}}}
"""
    intake = await run(text, around=around, lines=lines)
    assert intake.contents == ["a"] * 9 + ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["1.gz"]
    assert any("1.gz: near byte" in line and '"error"' in line for line in lines)
    assert around.metrics.total("input_source_unreadable") == 1


async def test_a_file_that_is_not_there_is_a_fault_of_the_config(tmp_path):
    for name in ("file", "csv"):
        with pytest.raises(BaseExceptionGroup) as caught:
            await run(f"input: {{{name}: {{paths: ['{tmp_path}/nothing']}}}}")
        assert caught.group_contains(ConfigError, match="no such file")


async def test_csv_rows_have_their_header_and_where_they_are_from(tmp_path):
    (tmp_path / "1.csv").write_bytes(b"b;a\n1;2\n3\n4;5;6\n")
    (tmp_path / "2.csv").write_bytes(b"c\n7\n")
    text = (
        f"input: {{csv: {{paths: ['{tmp_path}/*.csv'], delimiter: ';', delete_on_finish: true}}}}"
    )
    intake = await run(text)
    assert intake.contents == ['{"a":"2","b":"1"}', '{"b":"3"}', '["4","5","6"]', '{"c":"7"}']
    first = intake.messages[0].metadata
    assert (first["header"], first["csv_row"]) == (["b", "a"], 0)
    assert first["path"] == str(tmp_path / "1.csv")
    assert intake.messages[3].metadata["header"] == ["c"]
    assert list(tmp_path.iterdir()) == []


async def test_csv_without_a_header_gives_arrays(tmp_path):
    (tmp_path / "1.csv").write_bytes(b'1,2\n3,x"y\n')
    fields = f"paths: ['{tmp_path}/1.csv'], parse_header_row: false"
    intake = await run(f"input: {{csv: {{{fields}, lazy_quotes: true}}}}")
    assert intake.contents == ['["1","2"]', '["3","x\\"y"]']
    assert "header" not in intake.messages[0].metadata
    intake = await run(f"input: {{csv: {{{fields}}}}}")
    assert intake.contents == ['["1","2"]', "[]"]
    assert 'bare " in non-quoted-field' in str(intake.messages[1].error)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("{}", ["a|b", "c"]),
        ("{codec: 'delim:|'}", ["a", "b\nc\n"]),
        ("{scanner: {to_the_end: {}}}", ["a|b\nc\n"]),
        ("{scanner: {lines: {custom_delimiter: '|'}}}", ["a", "b\nc\n"]),
    ],
)
async def test_stdin_is_cut_as_its_scanner_says(monkeypatch, fields, expected):
    stream = io.BytesIO(b"a|b\nc\n")
    monkeypatch.setattr(stdin, "sys", SimpleNamespace(stdin=SimpleNamespace(buffer=stream)))
    assert (await run(f"input: {{stdin: {fields}}}")).contents == expected


async def test_what_cannot_be_read_from_stdin_ends_the_pipeline(monkeypatch):
    stream = io.BytesIO(b"abc\nabcdef\n")
    monkeypatch.setattr(stdin, "sys", SimpleNamespace(stdin=SimpleNamespace(buffer=stream)))
    with pytest.raises(BaseExceptionGroup) as caught:
        await run("input: {stdin: {scanner: {lines: {max_buffer_size: 4}}}}")
    assert caught.group_contains(Unreadable, match="standard input: record 2 at byte 4")


async def test_read_until_ends_behind_the_line_that_says_so_and_the_file_stays(tmp_path):
    (tmp_path / "1.txt").write_bytes(b"1\n2\n3\n4\n")
    text = f"""
input:
  read_until:
    check: this == 2
    input: {{file: {{paths: ['{tmp_path}/1.txt'], delete_on_finish: true}}}}
"""
    assert (await run(text)).contents == ["1", "2"]
    assert (tmp_path / "1.txt").exists()


def test_a_stop_does_not_wait_for_a_pipe_that_says_nothing(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("http: {enabled: false}\ninput: {stdin: {}}\noutput: {stdout: {}}\n")
    command = [sys.executable, "-m", "openmeter_collector.cli.main", "run", str(config)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"a\n"
        process.terminate()
        assert process.stdout.read() == b""  # its end, while the pipe into it is open
        assert process.wait() == 0
