"""`openmeter-collector blobl`: run a mapping over lines, format it, explain the library."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from openmeter_collector.bloblang import (
    DELETED,
    NOTHING,
    STANDARD,
    Mapping,
    MappingError,
    MappingFailed,
    Services,
    SimpleDocument,
    compile,  # noqa: A004 - the verb of the package
)
from openmeter_collector.bloblang.plugins import library_with
from openmeter_collector.bloblang.printer import format_mapping
from openmeter_collector.bloblang.reference import entry_page
from openmeter_collector.cli.options import json_option
from openmeter_collector.errors import ConfigError
from openmeter_collector.values import json as value_json
from openmeter_collector.values import json_exact

_COMMANDS = ("fmt", "explain", "server")


class _Blobl(click.Group):
    """A group whose first argument may also be a mapping."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take what is no command for the mapping to run."""
        if args and args[0] != "run" and args[0] not in _COMMANDS:
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Send options without a command to `run`."""
        if not args or (args[0] not in _COMMANDS and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Only those with a name to type."""
        del ctx
        return list(_COMMANDS)


@click.group(cls=_Blobl, context_settings={"help_option_names": ["-h", "--help"]})
def blobl() -> None:
    r"""Run a Bloblang mapping on each line of the input.

    \b
    Examples:
      openmeter-collector blobl 'root.id = this.user.id' < lines.json
      openmeter-collector blobl -f mapping.blobl -i events.json --pretty
      openmeter-collector blobl fmt mapping.blobl
    """


@blobl.command(hidden=True)
@click.argument("mapping", required=False)
@click.option("-t", "--threads", default=1, help="Accepted for compatibility; one is used.")
@click.option("-r", "--raw", is_flag=True, help="Lines are raw text, not JSON documents.")
@click.option("-p", "--pretty", is_flag=True, help="Indent the results.")
@click.option(
    "-f", "--file", "file", type=click.Path(path_type=Path), help="Read the mapping here."
)
@click.option("-i", "--input", "source", type=click.Path(path_type=Path), help="Read lines here.")
@click.option("--max-token-length", default=65536, help="The longest line, in bytes.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A Python file with functions and methods of your own.",
)
def run(
    mapping: str | None,
    threads: int,
    raw: bool,
    pretty: bool,
    file: Path | None,
    source: Path | None,
    max_token_length: int,
    plugins: tuple[Path, ...],
) -> None:
    """Run a mapping on each line of the input."""
    del threads
    compiled = _compiled(mapping, file, plugins)
    with _opened(source) as stream:
        for number, line in _lines(stream, max_token_length):
            _one(compiled, number, line, raw=raw, pretty=pretty)


def _opened(source: Path | None) -> IO[bytes]:
    if source is None:
        return sys.stdin.buffer
    try:
        return source.open("rb")
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}; name a file with lines to map") from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name a file with a mapping") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: it is not UTF-8; a mapping is text") from None


def _compiled(mapping: str | None, file: Path | None, plugins: tuple[Path, ...]) -> Mapping:
    if file is not None:
        if mapping is not None:
            raise click.UsageError("give a mapping or a file with one, not both")
        mapping = _text_of(file)
    if mapping is None:
        raise click.UsageError("missing argument: the mapping")
    try:
        # What the file imports is looked for beside it.
        return compile(
            mapping,
            name=str(file) if file else "",
            registry=library_with(plugins),
            services=Services(here=str(file.parent.absolute()) if file else ""),
        )
    except MappingError as error:
        print(f"failed to parse mapping: {error.rendered()}", file=sys.stderr)
        raise SystemExit(1) from None


def _lines(stream: IO[bytes], longest: int) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, 1):
        content = line.rstrip(b"\n").removesuffix(b"\r")
        if len(content) > longest:
            print(
                f"line {number}: longer than {longest} bytes; see --max-token-length",
                file=sys.stderr,
            )
            raise SystemExit(1)
        if content:
            yield number, content


def _one(mapping: Mapping, number: int, line: bytes, *, raw: bool, pretty: bool) -> None:
    message = SimpleDocument(line)
    if not raw:
        try:
            message.structured()
        except ValueError as error:
            print(f"line {number}: failed to parse message as JSON: {error}", file=sys.stderr)
            return
    try:
        body, _ = mapping.run([message], 0)
        if body is not DELETED:
            _write(line if body is NOTHING else body, pretty=pretty)
    except MappingFailed as failed:
        print(f"line {number}: failed to execute map: {failed}", file=sys.stderr)
    except value_json.EncodeError as error:
        print(f"line {number}: failed to write the result: {error}", file=sys.stderr)


def _write(body: Any, *, pretty: bool) -> None:
    if isinstance(body, bytes):
        out = body
        if pretty:
            try:
                out = json_exact.dumps(value_json.loads(body), "  ")
            except ValueError:
                out = body
    else:
        out = json_exact.dumps(body, "  ") if pretty else value_json.dumps(body)
    sys.stdout.buffer.write(out + b"\n")
    sys.stdout.buffer.flush()


@blobl.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only say which files are not formatted.")
def fmt(files: tuple[Path, ...], check: bool) -> None:
    r"""Format mappings in place; without files, standard input to standard output.

    \b
    Exit codes:
      1  a mapping cannot be parsed, or with --check is not formatted

    \b
    Examples:
      openmeter-collector blobl fmt mapping.blobl
      openmeter-collector blobl fmt --check mapping.blobl
    """
    if not files:
        print(_formatted(sys.stdin.read(), ""), end="")
        return
    unformatted = False
    for path in files:
        text = _text_of(path)
        made = _formatted(text, str(path), path.parent)
        if made != text:
            unformatted = True
            print(path)
            if not check:
                path.write_text(made, encoding="utf-8")
    if check and unformatted:
        raise SystemExit(1)


def _formatted(text: str, name: str, folder: Path | None = None) -> str:
    here = Services(here=str(folder.absolute()) if folder else "")
    try:
        return format_mapping(compile(text, name=name, services=here).program)
    except MappingError as error:
        print(error.rendered(), file=sys.stderr)
        raise SystemExit(1) from None


@blobl.command()
@click.argument("name")
@json_option
def explain(name: str, as_json: bool) -> None:
    r"""Print the page of a function or method.

    \b
    Examples:
      openmeter-collector blobl explain ts_format
    """
    found = [entry for entry in STANDARD if entry.name == name]
    if not found:
        reason = STANDARD.left_out.get(name)
        if reason:
            raise ConfigError(f"{name} is left out of this collector: {reason}")
        close = difflib.get_close_matches(name, [entry.name for entry in STANDARD], 3, 0.5)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise ConfigError(f"there is no function or method '{name}'{hint}")
    if as_json:
        pages = [
            {"name": one.name, "method": one.is_method, "page": entry_page(one)} for one in found
        ]
        print(value_json.dumps(pages).decode())
        return
    print("\n".join(entry_page(entry) for entry in found), end="")


@blobl.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-p", "--port", default=4195, show_default=True, help="Port; 0 takes a free one.")
@click.option("-n", "--no-open", is_flag=True, help="Do not open a browser.")
@click.option(
    "-m", "--mapping-file", type=click.Path(path_type=Path), help="Start with this mapping."
)
@click.option(
    "-i", "--input-file", type=click.Path(path_type=Path), help="Start with this document."
)
@click.option("-w", "--write", is_flag=True, help="Write changes back to those files.")
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path),
    help="A Python file with functions and methods of your own.",
)  # fmt: skip
@click.option(
    "-c", "--config", "config_file", type=click.Path(path_type=Path),
    help="A config whose mappings can be tried (ours).",
)  # fmt: skip
@click.option("-r", "--resources", multiple=True, metavar="GLOB", help="Its files with resources.")
@click.option(
    "--write-tests", is_flag=True,
    help="Let the page add unit tests to NAME_benthos_test.yaml beside the config (ours).",
)  # fmt: skip
def server(
    host: str,
    port: int,
    no_open: bool,
    mapping_file: Path | None,
    input_file: Path | None,
    write: bool,
    plugins: tuple[Path, ...],
    config_file: Path | None,
    resources: tuple[str, ...],
    write_tests: bool,
) -> None:
    r"""Try mappings in a browser: a document, a mapping, and the result as you type.

    One page, served from this machine, that asks no other. Whoever reaches it can run mappings here,
    which can read files and the environment: keep to the loopback address.

    \b
    Examples:
      openmeter-collector blobl server
      openmeter-collector blobl server -m mapping.blobl -i event.json --write
      openmeter-collector blobl server -c config.yaml --write-tests
    """
    from openmeter_collector.cli.blobl_server import (  # noqa: PLC0415 - needs the HTTP server
        Served,
        serve,
    )

    served = Served(mapping_file, input_file, write, plugins, config_file, resources, write_tests)
    serve(host, port, served, browser=not no_open)
