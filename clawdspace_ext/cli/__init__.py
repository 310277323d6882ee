"""The command line.  Each command lives in a module that is imported when the command is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from ..errors import SpaceError
from ..version import __version__

#: command -> where it is, in the order of ``--help``.
COMMANDS = {
    "quickstart": "quickstart:quickstart",
    "create": "spaces:create",
    "list": "spaces:list_spaces",
    "exec": "execute:execute",
    "shell": "execute:shell",
    "ps": "watch:ps",
    "attach": "watch:attach",
    "stats": "watch:stats",
    "cp": "copy:cp",
    "stop": "spaces:stop",
    "start": "spaces:start",
    "destroy": "spaces:destroy",
    "volumes": "volumes:volumes",
    "images": "images:images",
    "system": "machine:system",
    "doctor": "machine:doctor",
    "daemon": "daemon:daemon",
    "serve": "jupyter:serve",
    "lab": "jupyter:lab",
    "keys": "keys:keys",
    "config": "config:config",
    "completion": "completion:completion",
}
ALIASES = {"ls": "list", "x": "exec"}


class Failed(click.ClickException):
    """A SpaceError on its way to the terminal: one line of what is wrong, one of what to do."""

    def __init__(self, error: SpaceError) -> None:
        super().__init__(error.message)
        self.remedy = error.remedy

    def show(self, file: Any = None) -> None:
        """Print it on stderr.  Parts of it may come from a space, so it is made harmless to terminals."""
        from .output import printable

        text = f"error: {self.message}" + (f"\n  {self.remedy}" if self.remedy else "")
        for line in text.splitlines():
            click.echo(printable(line), err=True, file=file)


class Commands(click.Group):
    """A group that imports nothing until a command is named, and turns SpaceErrors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command by name or alias."""
        place = COMMANDS.get(ALIASES.get(name, name))
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(f".{module}", __package__), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SpaceError as error:
            raise Failed(error) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="clawdspace")
def main() -> None:
    """Isolated Linux spaces that are kernels, terminals and an API."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is None:  # it was closed, and the next socket opened would take its number
            os.open(os.devnull, os.O_RDWR)
