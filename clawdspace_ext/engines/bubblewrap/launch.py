"""Starting bubblewrap so that the sandbox outlives whoever started it.

In a sandbox's folder:

    status.json   the launch, see ``status.py``
    agent.sock    where the agent is reached; bound here, outside the sandbox, and inherited by the agent
    log           what bubblewrap and the agent's interpreter complain of
    etc/          files for the space's /etc
    packages      the folders of Python packages, one a line
    env-X.Y/      the layer over the Python of that version

The last three are written anew by each launch, except a layer that is there.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ...errors import Unavailable
from . import processes, status
from .arguments import ORDINARY_UID, Descriptors, Plan, bwrap_arguments
from .environment import write_layer
from .machine import Machine

STATUS, SOCKET, LOG = "status.json", "agent.sock", "log"

_BACKLOG = 128
_START_SECONDS = 15.0
_LOG_TAIL = 2000

# Joins control groups, lets the sandbox die before anybody else when memory runs out, and bounds descriptors and core
# dumps; then leaves, as a child of init, what the rest of the line says.
_LAUNCHER = """
while [ "$1" != -- ]; do echo 0 > "$1"; shift; done
shift
echo 200 > /proc/self/oom_score_adj || :
ulimit -c 0
ulimit -n 4096 || :
exec setsid --fork "$@"
"""


@dataclass(frozen=True, slots=True)
class Files:
    """What a sandbox is made of: its folder, its /workspace, and the user id that owns what it may write."""

    folder: Path
    workspace: Path
    uid: int


def launch(machine: Machine, files: Files, hostname: str, memory: int, joins: Sequence[Path]) -> None:
    """Start a sandbox, and return when its agent's interpreter runs.

    ``joins`` are the control groups' files to write to.  Raises Unavailable with what bubblewrap said when it fails.
    """
    folder = files.folder
    plan = Plan(
        hostname=hostname,
        uid=files.uid if machine.root else None,
        python=machine.python,
        agent=machine.agent,
        workspace=files.workspace,
        layer=folder / machine.python.layer_name,
        etc=folder / "etc",
        packages=folder / "packages",
        tmp_size=memory // 2,
    )
    _write_files(plan, files.uid)
    status.begin(folder / STATUS, processes.boot_id(), datetime.now(UTC))
    with _descriptors(folder, machine.syscalls) as (fds, ready):
        _spawn(machine.bwrap, bwrap_arguments(plan, fds), fds, folder / LOG, joins)
    with closing(ready):
        _await_ready(ready, folder)
    _identify(folder / STATUS)


def _write_files(plan: Plan, uid: int) -> None:
    inside = ORDINARY_UID if plan.uid is None else uid
    plan.etc.mkdir(exist_ok=True)
    for name, text in {
        "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nspace:x:{inside}:{inside}:space:/workspace:/bin/bash\n",
        "group": f"root:x:0:\nspace:x:{inside}:\n",
        "hosts": f"127.0.0.1 localhost {plan.hostname}\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": "",
    }.items():
        _write_readable(plan.etc / name, text)
    _write_readable(plan.packages, "".join(f"{path}\n" for path in plan.python.packages_inside))
    if not plan.layer.exists():
        write_layer(plan.layer, plan.python, uid)


def _write_readable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


@contextmanager
def _descriptors(folder: Path, syscalls: bytes) -> Iterator[tuple[Descriptors, socket.socket]]:
    """Open what bubblewrap inherits, and give the end of ``ready`` that tells when the agent runs."""
    with ExitStack() as stack:
        ready, told = socket.socketpair()
        stack.enter_context(closing(told))
        listener = stack.enter_context(closing(_listen(folder)))
        status_fd = os.open(folder / STATUS, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        stack.callback(os.close, status_fd)
        seccomp_fd = os.memfd_create("seccomp")
        stack.callback(os.close, seccomp_fd)
        os.write(seccomp_fd, syscalls)
        os.lseek(seccomp_fd, 0, os.SEEK_SET)
        yield Descriptors(status_fd, seccomp_fd, listener.fileno(), told.fileno()), ready


def _listen(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        (folder / SOCKET).unlink(missing_ok=True)
        with short_path(folder / SOCKET) as path:
            listener.bind(path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a path to the same file that fits into a unix socket's address, however deep the file is."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def _spawn(bwrap: Path, arguments: list[str], fds: Descriptors, log: Path, joins: Sequence[Path]) -> None:
    launcher = ["/bin/sh", "-ec", _LAUNCHER, "sh", *map(str, joins), "--"]
    passed = (fds.status, fds.seccomp, fds.listen, fds.ready)
    with log.open("wb") as complaints:
        done = subprocess.run(
            [*launcher, str(bwrap), *arguments],
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=complaints,
            stderr=complaints,
        )
    if done.returncode != 0:
        raise Unavailable(f"the space does not start: {_tail(log)}")


def _await_ready(ready: socket.socket, folder: Path) -> None:
    """Wait for the byte that the agent's interpreter sends; the end without it means that there is none."""
    readable, _, _ = select.select([ready], [], [], _START_SECONDS)
    if readable and ready.recv(1):
        return
    with processes.main_process(status.read(folder / STATUS)) as main:
        if main is not None:
            main.signal(signal.SIGKILL)
    why = _tail(folder / LOG) or ("its agent is silent" if not readable else "it ended at once")
    raise Unavailable(f"the space does not start: {why}")


def _identify(path: Path) -> None:
    """Note when the main process started, which together with its pid no other process can have in common."""
    launched = status.read(path)
    if launched is not None and launched.pid is not None:
        start_time = processes.start_time(launched.pid)
        if start_time is not None:
            status.add(path, **{"start-time": start_time})


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
