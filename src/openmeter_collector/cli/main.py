"""The command line. Commands are imported when they are called, so that each starts quickly."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import click
from click.shell_completion import CompletionItem

from openmeter_collector import __version__
from openmeter_collector.cli.manual import explain
from openmeter_collector.cli.options import moved_behind, only_options, with_plain_flags
from openmeter_collector.errors import CollectorError, ConfigError

COMMANDS: Final = {
    "blobl": "openmeter_collector.cli.blobl:blobl",
    "buffer": "openmeter_collector.cli.buffer:buffer",
    "compare-upstream": "openmeter_collector.cli.compare_upstream:compare_upstream",
    "completion": "openmeter_collector.cli.completion:completion",
    "create": "openmeter_collector.cli.create:create",
    "demo": "openmeter_collector.cli.demo:demo",
    "dlq": "openmeter_collector.cli.dlq:dlq",
    "doctor": "openmeter_collector.cli.doctor:doctor",
    "docs": "openmeter_collector.cli.docs:docs",
    "echo": "openmeter_collector.cli.echo:echo",
    "gaps": "openmeter_collector.cli.gaps:gaps",
    "help": "openmeter_collector.cli.help:help_",
    "init": "openmeter_collector.cli.init:init",
    "ledger": "openmeter_collector.cli.ledger:ledger",
    "lint": "openmeter_collector.cli.lint:lint",
    "list": "openmeter_collector.cli.list:list_",
    "man": "openmeter_collector.cli.help:man",
    "reconcile": "openmeter_collector.cli.reconcile:reconcile",
    "run": "openmeter_collector.cli.run:run",
    "sandbox": "openmeter_collector.cli.sandbox:sandbox",
    "schema": "openmeter_collector.cli.schema:schema",
    "seed": "openmeter_collector.cli.seed:seed",
    "tail": "openmeter_collector.cli.tail:tail",
    "selftest": "openmeter_collector.cli.selftest:selftest",
    "template": "openmeter_collector.cli.template:template",
    "test": "openmeter_collector.cli.test:test",
    "streams": "openmeter_collector.cli.streams:streams",
    "top": "openmeter_collector.cli.top:top",
    "trace": "openmeter_collector.cli.trace:trace",
}


class _Commands(click.Group):
    """A group that knows its commands by name and imports them late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        at = COMMANDS.get(cmd_name)
        if at is None:
            return None
        module, _, name = at.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        if command.epilog is None:
            explain(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # `openmeter-collector -c FILE` has always meant `run -c FILE`, and options of `run` may
        # stand before another command.
        if args and args[0].startswith("-") and args[0] not in {"-h", "--help"}:
            if ctx.resilient_parsing and only_options(args, self._options(ctx, "run") or {}):
                return None, None, args  # what is completed may be the command's name
            args = moved_behind(args, lambda name: self._options(ctx, name))
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, rest if command is None else with_plain_flags(rest, command.params)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Not by importing every command for its help: that would be felt at each press of the key.
        if not incomplete.startswith("-"):
            return [
                CompletionItem(name) for name in sorted(COMMANDS) if name.startswith(incomplete)
            ]
        run = self.get_command(ctx, "run")
        assert run is not None
        items = super().shell_complete(ctx, incomplete)
        return items + run.shell_complete(click.Context(run, parent=ctx), incomplete)

    def _options(self, ctx: click.Context, name: str) -> dict[str, bool] | None:
        command = self.get_command(ctx, name)
        if command is None:
            return None
        return {
            text: not one.is_flag
            for one in command.params
            if isinstance(one, click.Option)
            for text in one.opts
        }


@click.command(
    cls=_Commands,
    context_settings={
        "max_content_width": 100,
        "help_option_names": ["-h", "--help"],
        "ignore_unknown_options": True,
    },
    no_args_is_help=True,
)
@click.version_option(__version__, "-v", "--version", message="%(version)s")
def cli() -> None:
    """Collects usage events, keeps them safe on disk and delivers them to OpenMeter."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    as_json = wants_json(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(arguments, prog_name="openmeter-collector", standalone_mode=False)
    except click.ClickException as error:
        if as_json:
            _tell([error.format_message()], as_json=True)
        else:
            error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except ConfigError as error:
        _tell(error.problems, as_json=as_json)
        sys.exit(1)
    except CollectorError as error:
        _tell([str(error)], as_json=as_json)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for output that a program reads."""
    options = words[: words.index("--")] if "--" in words else words
    return (
        "--json" in options
        or "--format=json" in options
        or ("--format", "json") in pairwise(options)
    )


def _tell(problems: Sequence[str], *, as_json: bool) -> None:
    """Say what went wrong, for a person or for a program."""
    text = "\n".join(problems)
    if as_json:
        text = json.dumps({"error": text, "problems": list(problems)})
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
