"""What the daemon records about itself, and where its log ends: all that a client reads before it connects."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from . import paths


class Daemon(NamedTuple):
    """What a daemon records about itself: ``python`` is the interpreter it runs, ``host`` the machine it runs on."""

    pid: int
    version: str
    socket: str
    python: str
    host: str


def recorded() -> Daemon | None:
    """Return what the last daemon recorded, alive or not, or None."""
    try:
        fields = json.loads(paths.lock_path().read_bytes())
        return Daemon(**fields)
    except (FileNotFoundError, ValueError, TypeError):
        return None  # none has run yet, or one is starting and has yet to write


def log_tail(lines: int) -> str:
    """Return the last lines of the daemon's log, at most 256 KiB of them."""
    try:
        with open(paths.log_path(), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 256 * 1024))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "".join(text.splitlines(keepends=True)[-lines:])
