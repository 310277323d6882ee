"""How results are printed: tables for people, JSON for programs, both on stdout; what is said about them on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from ..wire import dumps

#: Columns of a line when nobody looks at it: a program must not get lines cut.
_NO_LIMIT = 10_000


def print_json(value: object) -> None:
    """Print one line of JSON."""
    sys.stdout.write(dumps(value).decode() + "\n")


def note(text: str) -> None:
    """Tell something that is no result."""
    click.echo(text, err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns, or say on stderr that there are none.  Cells are text, never markup."""
    rows = list(rows)
    if not rows:
        note(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for row in rows:
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(width=_NO_LIMIT, highlight=False)
    with console.capture() as lines:
        console.print(table)
    for line in lines.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


_STYLES = {"running": "green", "paused": "yellow", "stopped": "dim", "ok": "green", "note": "yellow", "wrong": "red"}


def printable(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def size(count: int) -> str:
    """Return bytes as text, for instance ``1.5 GB`` (of 1024³ bytes)."""
    for unit, scale in (("GB", 1024**3), ("MB", 1024**2)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count} B"


def age(moment: datetime | None) -> str:
    """Return how long ago something was, for instance ``3 h``."""
    if moment is None:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
