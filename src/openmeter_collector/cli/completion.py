"""`completion`: what a shell needs to complete our command line."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

_SHELLS: Final = ("bash", "zsh", "fish")
_NAME: Final = "openmeter-collector"
_VARIABLE: Final = "_OPENMETER_COLLECTOR_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    r"""Print a script that completes commands, options and files in a shell (ours).

    \b
    Examples:
      eval "$(openmeter-collector completion bash)"     in ~/.bashrc
      eval "$(openmeter-collector completion zsh)"      in ~/.zshrc, after compinit
      openmeter-collector completion fish > ~/.config/fish/completions/openmeter-collector.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, _NAME, _VARIABLE).source())
    return 0
