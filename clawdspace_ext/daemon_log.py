"""The daemon's log: one line an event with the time in front, in a file that cannot grow without end."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

#: The log is moved aside at this size, in bytes, and one old log is kept.
MAX_LOG = 5 * 1024 * 1024


class LogFile(logging.StreamHandler):  # type: ignore[type-arg]  # the stub's parameter is not one at run time
    """Logs to stderr, and when stderr is the file ``path``, starts it anew whenever it has grown to ``MAX_LOG``.

    The file is put under the descriptors themselves, so that what Python or a library prints as it dies is in it too.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(sys.stderr)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        super().emit(record)
        if os.fstat(2).st_size > MAX_LOG and self._path.exists() and os.path.samestat(os.fstat(2), self._path.stat()):
            self._rotate()

    def _rotate(self) -> None:
        self._path.rename(self._path.with_suffix(".log.1"))
        new = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(new, 2)
        os.dup2(new, 1)
        os.close(new)


class OneLine(logging.Formatter):
    """Keeps an event on its line: what is logged may hold words of a space or a client, who could write lines of
    their own or steer the terminal that shows them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging names it
        """Return the line; what cannot be printed is escaped."""
        record.message = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in record.message
        )
        return super().formatMessage(record)


def configure(path: Path) -> None:
    """Send every logger's lines to the log, times to the millisecond in local time."""
    handler = LogFile(path)
    handler.setFormatter(
        OneLine("{asctime}.{msecs:03.0f} {levelname:<7} {name}: {message}", "%Y-%m-%d %H:%M:%S", style="{")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
