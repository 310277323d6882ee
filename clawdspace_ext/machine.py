"""Facts about this machine, or about the container we run in, from the standard library."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Any, NamedTuple

_GIB = 1024**3
_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}
_CGROUPS = Path("/sys/fs/cgroup")


class Memory(NamedTuple):
    """Bytes that there are, and that are used and cannot be had back."""

    total: int
    used: int


def arch() -> str:
    """Return the architecture by the name clients know: ``x64`` or ``arm64``; others as the kernel says."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine.lower(), machine)


def cpus() -> int:
    """Return how many processors may be used, a cgroup's quota taken into account."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    return min(allowed, max(1, -int(-quota // 1))) if quota else allowed


def memory() -> Memory:
    """Return the memory of the machine, or of our cgroup where that has a limit below it."""
    fields = _meminfo()
    total = fields["MemTotal"]
    limit = _cgroup_number("memory.max", "memory/memory.limit_in_bytes")
    if limit is None or limit >= total:
        return Memory(total, total - fields["MemAvailable"])
    used = _cgroup_number("memory.current", "memory/memory.usage_in_bytes") or 0
    return Memory(limit, max(0, used - _reclaimable()))


def system() -> dict[str, Any]:
    """Return what ``GET /api/system`` says about the machine; reading it may block."""
    ram = memory()
    return {
        "hostname": socket.gethostname(),
        "platform": platform.system().lower(),
        "arch": arch(),
        "cpus": cpus(),
        "loadAverage": [round(load, 2) for load in os.getloadavg()],
        "memory": {
            "total": gigabytes(ram.total),
            "free": gigabytes(ram.total - ram.used),
            "used": gigabytes(ram.used),
            "percentage": f"{100 * ram.used / ram.total:.1f}%",
        },
        "disk": _disk("/"),
        "uptime": _uptime(),
    }


def capabilities() -> dict[str, Any]:
    """Return what a space can be given here; no GPU is offered."""
    return {"gpu": False, "gpuName": None, "gpuMemory": None, "arch": arch(), "platform": platform.system().lower()}


def gigabytes(size: int) -> str:
    """Return bytes as text, for instance ``23.5 GB`` (of 1024³ bytes)."""
    return f"{size / _GIB:.1f} GB"


def _disk(path: str) -> dict[str, str | None]:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return dict.fromkeys(("total", "used", "available", "percentage"))
    return {
        "total": _short(usage.total),
        "used": _short(usage.used),
        "available": _short(usage.free),
        # As df counts it: what is reserved for root is neither used nor free.
        "percentage": f"{100 * usage.used / max(1, usage.used + usage.free):.0f}%",
    }


def _short(size: float) -> str:
    """Return bytes as df -h writes them, for instance ``49G`` or ``1.2T``."""
    units = iter("KMGTPE")
    unit = ""
    while size >= 1024:
        size /= 1024
        unit = next(units)
    return f"{size:.1f}{unit}" if size < 10 else f"{size:.0f}{unit}"


def _uptime() -> str:
    minutes = int(float(Path("/proc/uptime").read_text().split()[0])) // 60
    return f"{minutes // 1440}d {minutes // 60 % 24}h {minutes % 60}m"


def _meminfo() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}


def _cpu_quota() -> float | None:
    if text := _cgroup_text("cpu.max"):
        quota, period = text.split()
        return None if quota == "max" else int(quota) / int(period)
    quota_us = _cgroup_number("cpu/cpu.cfs_quota_us")
    period_us = _cgroup_number("cpu/cpu.cfs_period_us")
    return quota_us / period_us if quota_us and quota_us > 0 and period_us else None


def _reclaimable() -> int:
    """Return the page cache of our cgroup that the kernel gives back when asked."""
    text = _cgroup_text("memory.stat", "memory/memory.stat") or ""
    fields = dict(line.split()[:2] for line in text.splitlines())
    return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))


def _cgroup_number(*names: str) -> int | None:
    text = _cgroup_text(*names)
    return int(text) if text and text.lstrip("-").isdigit() else None


def _cgroup_text(*names: str) -> str | None:
    """Return the first of these files that is there.

    Only the top of the hierarchy is looked at, which inside a container is the container's own.
    """
    for name in names:
        try:
            return (_CGROUPS / name).read_text().strip()
        except OSError:
            continue  # another version of cgroups, or none
    return None
