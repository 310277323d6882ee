"""The first command somebody runs."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from ..errors import Unavailable
from .output import printable


class _Steps:
    """Numbered steps with their durations."""

    def __init__(self) -> None:
        self._number = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show that a step is under way, and how it went."""
        self._number += 1
        details: list[str] = []
        started = time.monotonic()
        if sys.stdout.isatty():
            click.echo(f"{self._number}. {title} …\r", nl=False)
        try:
            yield details.append
        except BaseException:
            click.echo()
            raise
        detail = f": {printable('; '.join(details))}" if details else ""
        click.echo(f"{self._number}. {title}{detail}  ({time.monotonic() - started:.2f} s)")

    def say(self, text: str) -> None:
        """Show a line."""
        click.echo(f"   {printable(text)}")


@click.command(short_help="Make a space and execute a notebook in it.")
def quickstart() -> None:
    """Make a space, run a command in it, execute a notebook in it, and leave it ready to use."""
    if importlib.util.find_spec("nbclient") is None:
        raise Unavailable("nbclient is not installed", remedy="pip install 'clawdspace[lab]'")
    started = time.monotonic()
    steps = _Steps()
    with steps.step("find or start the daemon"):
        client = SpacesClient(ensure_daemon())
    from ..quickstart import quickstart as run

    space, path = run(client, Path.cwd(), steps)
    name = space.name
    click.echo(f"done in {time.monotonic() - started:.1f} s.  Next:")
    hints = {
        f"clawdspace shell {name}": "a shell in the space",
        f"clawdspace lab {path.name}": f"the notebook in JupyterLab, with the kernel 'Python 3 ({name})'",
        f"clawdspace destroy {name}": "when you no longer need it",
    }
    for command, meaning in hints.items():
        click.echo(f"  {command:<{max(map(len, hints))}}  {meaning}")
