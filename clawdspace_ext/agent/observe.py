"""What goes on in the space, for whoever watches: its disk, its processes, the shell's last commands."""

from __future__ import annotations

import os
import time

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Tuple

    from .main import Agent

#: Seconds spent on adding up the workspace, during which the agent does nothing else.
SIZE_BUDGET = 0.05
TOP = 15
HISTORY_BYTES = 4096
MAX_COMMAND = 200


def observe(agent: Agent) -> Dict[str, Any]:
    """Return all of it; the size is None where adding it up takes too long."""
    return {
        "workspaceDisk": disk(agent.workspace),
        "workspaceSizeBytes": tree_size(agent.workspace),
        "top": top(),
        "bashHistoryTail": history(os.path.join(agent.workspace, ".bash_history")),
    }


def disk(path: str) -> Dict[str, Any]:
    """Return how full the file system of a path is, in bytes and per cent."""
    info = os.statvfs(path)
    used = (info.f_blocks - info.f_bfree) * info.f_frsize
    available = info.f_bavail * info.f_frsize
    total = info.f_blocks * info.f_frsize
    percent = round(100.0 * used / (used + available), 1) if used + available else 0.0
    return {"totalBytes": total, "usedBytes": used, "availBytes": available, "usedPercent": percent}


def tree_size(path: str) -> Optional[int]:
    """Return the bytes on disk of all below a path, None when the time is up before."""
    deadline = time.monotonic() + SIZE_BUDGET
    total = 0
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    if time.monotonic() > deadline:
                        return None
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # removed while we looked, or not ours to read
    return total


def top() -> List[Dict[str, Any]]:
    """Return the processes that have had most of the CPU; ``cpu`` and ``mem`` in per cent as of ``ps``."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    memory = os.sysconf("SC_PHYS_PAGES") * page
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    found: List[Tuple[float, Dict[str, Any]]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                comm, _, rest = file.read().partition(b"(")[2].rpartition(b")")
            fields = rest.split()
            with open("/proc/%s/cmdline" % name, "rb") as file:
                words = file.read(4 * MAX_COMMAND).rstrip(b"\0").replace(b"\0", b" ")
        except OSError:
            continue  # it has ended
        age = max(0.01, uptime - int(fields[19]) / ticks)
        cpu = 100.0 * (int(fields[11]) + int(fields[12])) / ticks / age
        entry = {
            "pid": int(name),
            "cpu": round(cpu, 1),
            "mem": round(100.0 * int(fields[21]) * page / memory, 1),
            "etime": elapsed(int(age)),
            "command": (words or b"[%s]" % comm).decode("utf-8", "replace")[:MAX_COMMAND],
        }
        found.append((cpu, entry))
    found.sort(key=lambda item: item[0], reverse=True)
    return [entry for _, entry in found[:TOP]]


def elapsed(seconds: int) -> str:
    """Return a time as ``ps`` prints it: ``[[DD-]hh:]mm:ss``."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    text = "%02d:%02d" % divmod(rest, 60)
    if days:
        return "%d-%02d:%s" % (days, hours, text)
    return "%02d:%s" % (hours, text) if hours else text


def history(path: str) -> str:
    """Return the last lines of the shell's history, none where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        size = os.fstat(fd).st_size
        start = max(0, size - HISTORY_BYTES)
        text = os.pread(fd, HISTORY_BYTES, start).decode("utf-8", "replace")
    except OSError:
        return ""  # a pipe, or a folder
    finally:
        os.close(fd)
    return text.partition("\n")[2] if start else text
