"""Where clawdspace keeps its things.

    data      what must last: the daemon's lock, the install id, keys, records, files of bubblewrap spaces
    runtime   sockets; gone after a reboot
    log       the daemon's log

``CLAWDSPACE_HOME`` moves all three together, so that tests and a user's own spaces never meet.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from .errors import Unavailable

#: A unix socket's path holds 107 bytes; what is longer than this leaves too few for the names below the folder.
MAX_RUNTIME_DIR = 48

_TEMPORARY = Path("/tmp")  # noqa: S108  # its folders are checked by private_dir before they are used


def home() -> Path | None:
    """Return the folder ``CLAWDSPACE_HOME`` names, absolute, or None."""
    named = os.environ.get("CLAWDSPACE_HOME")
    return Path(named).expanduser().absolute() if named else None


def data_dir() -> Path:
    """Return the folder of what must last, made if need be.  Raises Unavailable as ``private_dir`` does."""
    moved = home()
    return private_dir(moved / "data" if moved else _xdg("XDG_DATA_HOME", ".local/share"))


def log_dir() -> Path:
    """Return the folder of logs, made if need be.  Raises Unavailable as ``private_dir`` does."""
    moved = home()
    return private_dir(moved / "log" if moved else _xdg("XDG_STATE_HOME", ".local/state"))


def runtime_dir() -> Path:
    """Return the folder of sockets, made if need be; at most ``MAX_RUNTIME_DIR`` bytes long.

    It is one for each data folder, so that daemons of two never take each other's sockets.  Raises Unavailable as
    ``private_dir`` does.
    """
    return private_dir(next(path for path in _runtime_dirs() if len(os.fsencode(path)) <= MAX_RUNTIME_DIR))


def socket_path() -> Path:
    """Return where a daemon started from here listens."""
    return runtime_dir() / "daemon.sock"


def lock_path() -> Path:
    """Return the file whose lock makes a daemon the only one; it also records where that daemon is."""
    return data_dir() / "daemon.lock"


def log_path() -> Path:
    """Return the daemon's log."""
    return log_dir() / "daemon.log"


def private_dir(path: Path) -> Path:
    """Make ``path`` a folder that only this user can enter, and return it.

    Raises Unavailable when it is something else, belongs to somebody else, or others could have put things into it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        _check_private(path, found)
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        raise Unavailable(
            f"cannot use the folder {path}: {error.strerror}",
            remedy="make its parent writable, or set CLAWDSPACE_HOME to a folder of your own",
        ) from error
    return path


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise Unavailable(f"{path} is not a folder", remedy="remove it, or set CLAWDSPACE_HOME")
    if found.st_uid != os.geteuid():
        raise Unavailable(
            f"the folder {path} belongs to user {found.st_uid}, and you are user {os.geteuid()}",
            remedy="with sudo use 'sudo -H', or set CLAWDSPACE_HOME to a folder of your own",
        )
    if found.st_mode & 0o022:
        raise Unavailable(
            f"other users can write to the folder {path}",
            remedy="look at what is in it, then remove it or chmod 700 it",
        )


def _xdg(variable: str, default: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    base = named if named.is_absolute() else Path.home() / default
    return base / "clawdspace"


def _runtime_dirs() -> Iterator[Path]:
    """Yield places for sockets, the best first and the shortest last."""
    if moved := home():
        yield moved / "run"
    installation = f"{crc32(os.fsencode(data_dir())):08x}"
    # Where the variable is not set, as in cron jobs and after su, the session's folder is there all the same.
    for session in (Path(os.environ.get("XDG_RUNTIME_DIR", "")), Path(f"/run/user/{os.geteuid()}")):
        if session.is_absolute() and _is_own(session):
            yield session / f"clawdspace-{installation}"
    yield _TEMPORARY / f"clawdspace-{os.geteuid()}-{installation}"


def _is_own(path: Path) -> bool:
    """Tell whether this user may write there and it is theirs: after su the variable still names somebody else's."""
    return os.access(path, os.W_OK) and path.stat().st_uid == os.geteuid()
