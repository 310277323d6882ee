"""Completion in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
_PROGRAM = "clawdspace"


@click.command(short_help="Print what a shell needs to complete commands and names.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script for SHELL that completes commands, options and names of spaces.

    \b
      clawdspace completion bash >> ~/.bashrc
      clawdspace completion zsh >> ~/.zshrc
      clawdspace completion fish > ~/.config/fish/completions/clawdspace.fish
    """
    from . import main

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    click.echo(kind(main, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source())
