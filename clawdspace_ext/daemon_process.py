"""Find the daemon of this user, or start one; ask it, stop it, read its log.

The daemon holds a lock on ``paths.lock_path()`` for life and records in that file where it listens.  A client reads the
record and connects, which takes well under a millisecond; only when nobody listens does it take the slow path.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import paths
from .daemon_record import Daemon, recorded
from .errors import Conflict, SpaceError, Unavailable
from .version import __version__

#: Seconds a daemon may take from start to its first answer.
START_TIMEOUT = 20.0
#: Seconds a daemon may take to answer a question about itself, and to leave when asked.
ANSWER_TIMEOUT = 3.0
STOP_TIMEOUT = 8.0


def ensure_daemon() -> Path:
    """Return the socket of a running daemon, started if there was none.

    A newer daemon is used as it is; an older one is replaced when nothing is in flight in it, else used.
    Raises Unavailable with the log's last lines when it does not start.
    """
    daemon = recorded()
    if daemon is None or not _listens(daemon.socket):
        return _start()
    if daemon.version != __version__ and _is_older(daemon.version):
        return _replace(daemon)
    return Path(daemon.socket)


def running() -> Daemon | None:
    """Return the daemon that listens, or None."""
    daemon = recorded()
    return daemon if daemon is not None and _listens(daemon.socket) else None


def status() -> dict[str, Any] | None:
    """Return what the running daemon says about itself (``version``, ``pid``, ``inFlight``, …), or None if none runs.

    Raises Unavailable when it listens and does not answer.
    """
    daemon = running()
    if daemon is None:
        return None
    return _ask(daemon, "GET", "/api/daemon") | {"socket": daemon.socket, "python": daemon.python}


def stop() -> bool:
    """Stop the daemon, spaces untouched; return False if none ran.  Raises Unavailable when it cannot be stopped."""
    daemon = running()
    if daemon is None:
        return False
    with contextlib.suppress(SpaceError):  # one that no longer answers is ended below
        _ask(daemon, "POST", "/api/daemon/stop")
    if not _gone_within(STOP_TIMEOUT):
        _kill(daemon)
    return True


def _replace(daemon: Daemon) -> Path:
    try:
        _ask(daemon, "POST", "/api/daemon/stop?onlyIdle=true")
    except Conflict:
        return Path(daemon.socket)  # something is in flight in it
    _gone_within(STOP_TIMEOUT)
    return _start()


def _start() -> Path:
    """Start a daemon, or wait for the one that somebody else is starting."""
    from .daemon_start import spawn  # noqa: PLC0415  # what starts a process is slow to import, and rarely needed

    deadline = time.monotonic() + START_TIMEOUT
    with _starting(deadline):
        while (daemon := running()) is None:
            if not _locked():
                spawn(deadline)
            elif time.monotonic() > deadline:
                raise Unavailable(_stuck_message(), remedy="look at 'clawdspace daemon logs', then end that process")
            else:
                time.sleep(0.02)  # it starts, or leaves
    return Path(daemon.socket)


def _stuck_message() -> str:
    daemon = recorded()
    if daemon is None:
        return f"a daemon holds {paths.lock_path()} and does not say where it listens"
    if daemon.host != os.uname().nodename:
        return f"the daemon of {paths.data_dir()} runs on another machine, {daemon.host}; set CLAWDSPACE_HOME here"
    return f"the daemon, process {daemon.pid}, runs and does not listen on {daemon.socket}"


@contextlib.contextmanager
def _starting(deadline: float) -> Iterator[None]:
    """Hold the right to start a daemon, so that of many starters one starts it and the others find it."""
    with open(paths.data_dir() / "daemon.start", "wb") as turn:
        while True:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if running() is not None:
                    break  # whoever holds it has started one
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "another program has been starting the daemon for too long",
                        remedy="look at 'clawdspace daemon logs'",
                    ) from None
                time.sleep(0.02)
        yield


def _locked() -> bool:
    """Tell whether some daemon holds its lock."""
    with open(paths.lock_path(), "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _gone_within(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _locked():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _kill(daemon: Daemon) -> None:
    """End a daemon that does not leave; it is made to be killed at any moment."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(_listener_pid(daemon) or daemon.pid, signal.SIGKILL)
    if not _gone_within(STOP_TIMEOUT):
        raise Unavailable(f"the daemon, process {daemon.pid}, cannot be ended", remedy=f"try 'kill -9 {daemon.pid}'")


def _listener_pid(daemon: Daemon) -> int:
    """Return who really listens: the record may be stale and its number somebody else's by now."""
    with _connect(daemon.socket) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little")


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_TIMEOUT)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _listens(path: str) -> bool:
    try:
        _connect(path).close()
    except TimeoutError:
        return True  # too busy to take connections, and yet there
    except OSError:
        return False
    return True


def _ask(daemon: Daemon, method: str, target: str) -> dict[str, Any]:
    """Send one request without an HTTP library, whose import would cost more than the answer."""
    request = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    try:
        with _connect(daemon.socket) as connection, connection.makefile("rb") as answer:
            connection.sendall(request.encode())
            head, _, body = answer.read(1 << 20).partition(b"\r\n\r\n")
        reply: dict[str, Any] = json.loads(body)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"the daemon, process {daemon.pid}, does not answer", remedy="try 'clawdspace daemon stop'"
        ) from error
    if b" 409 " in head.split(b"\r\n", 1)[0]:
        raise Conflict(reply.get("error", "the daemon is busy"))
    return reply


def _is_older(version: str) -> bool:
    return _release(version) < _release(__version__)


def _release(version: str) -> list[int]:
    return [int(part) for part in version.partition("+")[0].split(".") if part.isdigit()]
