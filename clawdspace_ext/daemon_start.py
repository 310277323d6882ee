"""Start a daemon that outlives whoever asked for it: own session, own cgroup where systemd is, clean environment."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from . import paths
from .daemon_record import log_tail
from .errors import Unavailable

#: What a daemon takes over from whoever happens to start it; anything else might be a secret, or wrong for the next.
ENVIRONMENT = frozenset(
    {
        "HOME", "PATH", "LANG", "LC_ALL", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
        "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "DBUS_SESSION_BUS_ADDRESS", "JUPYTER_DATA_DIR", "IDLE_TIMEOUT_MS",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    }
)  # fmt: skip
#: Seconds that the first process may take; systemd may hang.
LAUNCH_TIMEOUT = 8.0
_PREFIXES = ("XDG_", "CLAWDSPACE_")


def spawn(deadline: float) -> None:
    """Start a daemon and wait until it is ready, or until the monotonic clock passes ``deadline``.

    Return as well when it left because another one had the lock.  Raises Unavailable with the log's tail.
    """
    command = [sys.executable, "-P", "-m", "clawdspace_ext.daemon", "--detach"]
    ready, write_end = os.pipe()
    with open(ready, "rb") as answer, open(write_end, "wb") as told:
        failed = not _launch([*_scope(), *command], told.fileno()) and not _launch(command, told.fileno())
        told.close()
        if failed or not _told(answer.fileno(), deadline):
            raise Unavailable(f"the daemon did not start\n{log_tail(12)}".rstrip(), remedy=_remedy())


def _remedy() -> str:
    return f"the whole log is in {paths.log_path()}; 'clawdspace doctor' checks what it needs"


def _launch(command: list[str], told: int) -> bool:
    """Run the daemon's first process, which leaves the daemon behind and returns; False when it failed."""
    with open(paths.log_path(), "ab") as log:
        try:
            subprocess.run(
                command,
                cwd="/",
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=log,
                start_new_session=True,
                check=True,
                timeout=LAUNCH_TIMEOUT,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
    return True


def _told(answer: int, deadline: float) -> bool:
    """Wait for the daemon's word; it closes the pipe without one when it dies."""
    timeout = max(0.0, deadline - time.monotonic())
    return bool(select.select([answer], [], [], timeout)[0]) and os.read(answer, 16) != b""


def environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a daemon started from one like ``caller``."""
    clean = {name: value for name, value in caller.items() if name in ENVIRONMENT or name.startswith(_PREFIXES)}
    if moved := paths.home():
        clean["CLAWDSPACE_HOME"] = str(moved)
    if found := _own_python_path(caller.get("PYTHONPATH", "")):
        clean["PYTHONPATH"] = found
    return clean


def _own_python_path(python_path: str) -> str:
    """Keep the folders that hold clawdspace itself, as in a checkout; other people's would shadow our imports."""
    folders = [Path(entry).absolute() for entry in python_path.split(os.pathsep) if entry]
    return os.pathsep.join(str(folder) for folder in folders if any(folder.glob("clawdspace_*")))


def _scope() -> list[str]:
    """Return the words that put a command outside the caller's cgroup, where systemd manages one.

    Else a Jupyter run as a service would take the daemon and all its kernels with it when it stops.
    """
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemd-run") is None:
        return []
    manager = [] if os.geteuid() == 0 else ["--user"]
    return ["systemd-run", *manager, "--scope", "--quiet", "--collect", "--"]
