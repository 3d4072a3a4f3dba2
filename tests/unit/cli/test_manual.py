"""What commands say of themselves: whole, true, and the same in `--help`, `help` and `man`."""

import json
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from openmeter_collector.cli.help import page
from openmeter_collector.cli.main import cli, main, wants_json
from openmeter_collector.cli.manual import PROGRAM, leaves

ROOT = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
LEAVES = dict(leaves(cli, ROOT))
ids = pytest.mark.parametrize("path", LEAVES, ids="-".join)

WITHOUT_JSON = {
    "blobl fmt": "formats files",
    "blobl server": "serves a page",
    "buffer dump": "prints events as they are",
    "buffer export": "prints JSON as it is",
    "completion": "prints a script",
    "dlq export": "prints JSON as it is",
    "help": "prints text for people",
    "init": "asks questions and writes a file",
    "man": "prints a page for man",
    "sandbox": "serves; its state is at /sandbox/stats",
    "schema": "prints JSON as it is",
    "streams": "runs; its state is at /streams",
}


def shown(*args):
    done = CliRunner().invoke(cli, [*args, "--help"])
    assert done.exit_code == 0
    return done.output


@ids
def test_a_command_says_what_it_does_with_what_it_ends_and_how_it_is_called(path):
    text = shown(*path)
    for title in ("Exit codes:", "Examples:"):
        assert f"\n  {title}\n" in text
    for code in "012":
        assert f"\n    {code}  " in text
    assert f"\n    {PROGRAM} {' '.join(path)}" in text


@ids
def test_every_option_is_explained(path):
    silent = [
        one.name
        for one in LEAVES[path].params
        if isinstance(one, click.Option) and not one.hidden and not one.help
    ]
    assert silent == []


@ids
def test_summaries_are_whole_sentences_and_not_cut(path):
    command = LEAVES[path]
    assert command.short_help.endswith((".", "beside it.", "standard input."))
    parent = shown(*path[:-1])
    assert "..." not in parent.partition("Commands:")[2]
    assert " ".join(command.short_help.split())[:40] in " ".join(parent.split())


def examples():
    for path in {(), *(path[:length] for path in LEAVES for length in (1, 2))}:
        for line in shown(*path).partition("  Examples:\n")[2].splitlines():
            if line.strip().startswith(PROGRAM):
                yield line.strip()


def arguments_of(line):
    words = shlex.split(line, comments=False)[1:]
    ends = [at for at, word in enumerate(words) if word in {"|", ">", "<", "&&"}]
    words = words[: ends[0]] if ends else words
    return words[: words.index("in")] if words[0] == "completion" and "in" in words else words


@pytest.mark.parametrize("line", sorted(set(examples())))
def test_examples_are_understood(line):
    words = arguments_of(line.removeprefix("eval "))
    command, ctx = cli, click.Context(cli, **cli.context_settings)
    while isinstance(command, click.Group):
        if command is not cli:
            ctx = command.make_context("", list(words), parent=ctx)
            words = [*ctx._protected_args, *ctx.args]
        name, command, words = command.resolve_command(ctx, list(words))
        assert command is not None, line
    command.make_context(name, list(words), parent=ctx)


def test_there_are_examples_to_check():
    assert len(set(examples())) > 50


@pytest.mark.parametrize("path", [(), ("run",), ("dlq", "replay"), ("blobl",)], ids="-".join)
def test_help_is_what_the_option_says(path):
    done = CliRunner().invoke(cli, ["help", *path], prog_name=PROGRAM)
    asked = CliRunner().invoke(cli, [*path, "--help"], prog_name=PROGRAM)
    assert (done.exit_code, done.output) == (0, asked.output)


def test_help_for_what_there_is_not_says_what_is_near(capsys):
    assert ended("help", "ldger") == 1
    assert "did you mean 'ledger'?" in capsys.readouterr().err
    assert ended("help", "dlq", "nothing") == 1
    assert "see openmeter-collector dlq --help" in capsys.readouterr().err


def test_the_page_of_the_manual_has_all_commands_and_options_and_nothing_wrong(tmp_path):
    whole = CliRunner().invoke(cli, ["man"]).output
    for path, command in LEAVES.items():
        assert f'.SS "{" ".join(path)}"'.replace("-", "\\-") in whole
        for one in command.params:
            if isinstance(one, click.Option) and not one.hidden:
                assert one.opts[0].replace("-", "\\-") in whole
    checker = shutil.which("mandoc") or shutil.which("groff")
    if checker is None:
        pytest.skip("neither mandoc nor groff is here to read the page")
    (tmp_path / "page.1").write_text(whole)
    options = ["-Tlint", "-Wwarning"] if checker.endswith("mandoc") else ["-man", "-ww", "-z"]
    read = subprocess.run(
        [checker, *options, str(tmp_path / "page.1")], capture_output=True, text=True, check=False
    )
    assert (read.returncode, read.stdout + read.stderr) == (0, "")


def test_text_of_a_page_is_nothing_but_text():
    @click.command(help='.SH not a "heading" \\fB\n\n\'neither')
    @click.option("--a-b", help=".nor this")
    def odd():
        pass

    made = page([("odd", odd)])
    assert "\\&.SH not a \\(dqheading\\(dq \\efB" in made
    assert "\\&'neither" in made
    assert "\\&.nor this" in made


@ids
def test_what_prints_data_prints_json_when_asked(path):
    options = {text for one in LEAVES[path].params for text in one.opts}
    name = " ".join(path)
    if name in WITHOUT_JSON:
        assert "--json" not in options, "not a word to keep in the table"
    else:
        assert "--json" in options


def ended(*args):
    with pytest.raises(SystemExit) as ending:
        main(list(args))
    return ending.value.code


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["ledger", "--json"], 1, "no journal was named"),
        (["ledger", "--json", "--nothing"], 2, "No such option"),
        (["ledger", "-j", "/no/such/file", "--json"], 1, "no such file"),
        (["list", "nothing", "--format", "json"], 1, "there is no type"),
        (["list", "nothing", "--format=json"], 1, "there is no type"),
    ],
)
def test_what_went_wrong_is_json_as_well(args, code, text, capsys):
    assert ended(*args) == code
    out, err = capsys.readouterr()
    assert out == ""
    told = json.loads(err)
    assert text in told["error"]
    assert told["problems"]


def test_what_went_wrong_is_text_for_people(capsys):
    assert ended("ledger") == 1
    assert capsys.readouterr().err.startswith("no journal was named")


def test_a_word_behind_the_end_of_options_asks_for_nothing():
    assert not wants_json(["blobl", "--", "--json"])
    assert not wants_json(["list", "--format", "text"])


CONFIG = """
http: {enabled: false}
logger: {level: "off"}
input: {generate: {count: 1, interval: "", mapping: 'root.id = "1"'}}
output: {drop: {}}
buffer: {sqlite: {path: PATH}}
tests:
  - name: one
    target_mapping: ./m.blobl
    input_batch: [{content: "{}"}]
    output_batches: [[{content_equals: "{}"}]]
"""
RUNS = [
    "run c.yaml", "run c.yaml --dry-run --dry-run-count 1", "ledger -c c.yaml", "trace 1 -c c.yaml",
    "dlq list -c c.yaml", "dlq export -c c.yaml", "dlq replay -c c.yaml --all",
    "dlq drop -c c.yaml --all --yes", "dlq edit -c c.yaml --all -m root.a=1", "dlq show 1 -c c.yaml",
    "buffer stat -c c.yaml", "buffer verify -c c.yaml", "buffer dump -c c.yaml",
    "buffer export -c c.yaml", "buffer import -c c.yaml /dev/null", "buffer compact -c c.yaml",
    "buffer repair -c c.yaml", "gaps -c c.yaml", "echo c.yaml", "lint --verbose c.yaml",
    "test c.yaml", "doctor --offline c.yaml", "compare-upstream c.yaml", "create", "list", "schema",
    "list presets", "completion bash", "blobl explain uppercase", "blobl fmt --check m.blobl",
    "template lint t.yaml", "top --once --url http://127.0.0.1:1", "tail --url http://127.0.0.1:1",
    "init --source demo --destination stdout -o -", "help", "man", "seed --count 1 --url http://127.0.0.1:1 --rate 0",
    "reconcile -c c.yaml --from 2026-01-01 --url http://127.0.0.1:1", "streams --no-api s.yaml",
    "selftest --rounds 1", "demo --duration 0.5 --any-port --folder d", "nothing",
]  # fmt: skip
"""A call of each command that ends by itself; what serves is tried where it is tested."""


def test_the_list_of_calls_is_whole():
    called = {" ".join(path) for path in LEAVES if any(_is(path, line) for line in RUNS)}
    assert {" ".join(path) for path in LEAVES} - called == {"blobl server", "sandbox"}


def _is(path, line):
    return line.split()[: len(path)] == list(path)


@pytest.mark.slow
def test_nothing_but_text_comes_out_where_no_terminal_is(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG.replace("PATH", str(tmp_path / "b.db")))
    (tmp_path / "m.blobl").write_text("root = this\n")
    (tmp_path / "t.yaml").write_text("name: a\ntype: processor\nmapping: 'root.noop = {}'\n")
    (tmp_path / "s.yaml").write_text(
        "input: {generate: {count: 1, interval: '', mapping: 'root = 1'}}\noutput: {drop: {}}\n"
    )
    escapes = []
    for line in RUNS:
        command = [sys.executable, "-m", "openmeter_collector.cli.main", *shlex.split(line)]
        patience = 6 if line.startswith("seed") else 90  # it asks until somebody answers
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                cwd=tmp_path,
                timeout=patience,
                check=False,
            )
            said = done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"") + (late.stderr or b"")
        if b"\x1b" in said:
            escapes.append(line)
    assert escapes == []
