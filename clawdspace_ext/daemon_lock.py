"""What makes a daemon the only one of its user: a lock held for life, with the record of where it listens inside."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

from .daemon_record import Daemon
from .version import __version__

#: Seconds a starting daemon tries to get the lock; clients hold it for an instant when they look whether it is held.
PATIENCE = 2.0


class DaemonLock:
    """The lock on ``path``.  The operating system lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> bool:
        """Take the lock and forget what an earlier daemon recorded; False when a living daemon has it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
        os.ftruncate(self._fd, 0)
        return True

    def record(self, socket_path: Path) -> None:
        """Tell clients where this daemon listens."""
        daemon = Daemon(os.getpid(), __version__, str(socket_path), sys.executable, os.uname().nodename)
        os.pwrite(self._fd, json.dumps(daemon._asdict()).encode(), 0)

    def release(self) -> None:
        """Forget the record and let go."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def listen(path: Path) -> socket.socket:
    """Return a socket listening at ``path`` for this user only; whoever holds the lock may replace what was there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(1024)
    return listener
