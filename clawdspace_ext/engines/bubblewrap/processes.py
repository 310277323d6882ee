"""Processes of a space as the host sees them: found by identity, signalled through descriptors, stopped as a whole."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...errors import Unavailable
from .status import Status

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 3.0


class Counters(NamedTuple):
    """What the processes of a space use: CPU seconds so far, bytes of memory, number of processes, bytes of disks."""

    cpu_seconds: float
    memory_bytes: int
    pids: int
    block_read_bytes: int = 0
    block_write_bytes: int = 0


class _Stat(NamedTuple):
    state: str
    start_time: int
    cpu_ticks: int
    memory_pages: int


@functools.cache
def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


class MainProcess:
    """The main process of a space, held by a descriptor, so that its pid cannot come to mean another one."""

    def __init__(self, fd: int, pid: int, namespace: int) -> None:
        self._fd = fd
        self.pid = pid
        self.namespace = namespace

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended.  SIGKILL ends every process of the space."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def wait(self, seconds: float) -> bool:
        """Return whether it ends within so many seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    @property
    def stopped(self) -> bool:
        """Whether it is stopped by a signal, which only the host can do to it."""
        stat = _stat(self.pid)
        return stat is not None and stat.state == "T"


@contextlib.contextmanager
def main_process(status: Status | None) -> Iterator[MainProcess | None]:
    """Give the main process of a launch while it lives, else None."""
    if status is None or status.pid is None or status.namespace is None or status.boot != boot_id():
        yield None
        return
    fd = _open(status.pid)
    if fd is None:
        yield None
        return
    try:
        main = MainProcess(fd, status.pid, status.namespace)
        yield main if _is_main(main, status.start_time) else None
    finally:
        os.close(fd)


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot."""
    stat = _stat(pid)
    return None if stat is None else stat.start_time


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _is_main(found: MainProcess, started: int | None) -> bool:
    """Whether a process is the one that started then, or by its namespace where that was not noted."""
    stat = _stat(found.pid)
    if stat is None or stat.state in "ZX":
        return False
    return _namespace(found.pid) == found.namespace if started is None else stat.start_time == started


def stop_all(main: MainProcess) -> None:
    """Stop every process of a space by signals, the main one last.

    While one runs it may start others or wake the stopped, hence the rounds.  Raises Unavailable, having let them go
    on, when they do not come to rest.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    signalled: set[int] = set()
    while restless := [pid for pid in _members(main) if pid not in signalled or _runs(pid)]:
        if time.monotonic() > deadline:
            continue_all(main)
            raise Unavailable("the processes of the space cannot be stopped", remedy="try again, or stop the space")
        for pid in restless:
            _signal_member(main, pid, signal.SIGSTOP)
        signalled.update(restless)
        time.sleep(0.001)


def continue_all(main: MainProcess) -> None:
    """Let every process of a space run on."""
    for pid in _members(main):
        _signal_member(main, pid, signal.SIGCONT)


def counters(main: MainProcess) -> Counters:
    """Add up what the processes of a space use; memory that they share counts for each."""
    stats = [stat for stat in map(_stat, _members(main)) if stat is not None]
    return Counters(
        cpu_seconds=sum(stat.cpu_ticks for stat in stats) / _TICKS,
        memory_bytes=sum(stat.memory_pages for stat in stats) * _PAGE,
        pids=len(stats),
    )


def _runs(pid: int) -> bool:
    """Whether a thread of a process that was told to stop still runs.

    Threads in the kernel (D) or held by a tracer (t) stop before they run on.
    """
    try:
        threads = [f"{pid}/task/{thread.name}" for thread in os.scandir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(stat.state in "RS" for stat in map(_stat, threads) if stat is not None)


def _signal_member(main: MainProcess, pid: int, number: int) -> None:
    fd = _open(pid)
    if fd is None:
        return
    try:
        if _namespace(pid) == main.namespace:
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass  # it ended meanwhile
    finally:
        os.close(fd)


def _members(main: MainProcess) -> list[int]:
    """Return the processes of a space, the main one last."""
    pids = (int(entry.name) for entry in os.scandir(_PROC) if entry.name.isdigit())
    return [*(pid for pid in pids if pid != main.pid and _namespace(pid) == main.namespace), main.pid]


def _namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:  # it ended, or belongs to somebody else
        return None


def _stat(process: int | str) -> _Stat | None:
    """Read the state of a process, or of a thread given as ``pid/task/tid``."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The fields after the name, from the third on; times include those of children that were waited for.
    return _Stat(
        state=fields[0].decode(),
        start_time=int(fields[19]),
        cpu_ticks=sum(map(int, fields[11:15])),
        memory_pages=int(fields[21]),
    )
