"""The terminal this program runs in: its size, and raw mode for as long as a remote one is shown in it."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator


def size() -> tuple[int, int]:
    """Return columns and rows of the terminal on stdout or stdin, or the usual 80 and 24."""
    for fd in (1, 0):
        with contextlib.suppress(OSError):
            cols, rows = os.get_terminal_size(fd)
            if cols and rows:
                return cols, rows
    return 80, 24


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Pass every key on as it is typed; on the way out the terminal is as it was."""
    if not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is not lost
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, before)
