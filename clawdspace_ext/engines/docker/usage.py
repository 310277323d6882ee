"""Counters of one container: from its cgroup where that is on this machine, else from the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docker import APIClient

from ...spaces import Usage
from ..blocks import blocks_v1, blocks_v2

_UNLIMITED = 1 << 60


def read_usage(client: APIClient, container: str) -> Usage | None:
    """Read the counters of a container, None when it does not run."""
    state = client.inspect_container(container)["State"]
    if not state["Running"]:
        return None
    return from_cgroup(state["Pid"], container) or from_stats(client.stats(container, stream=False, one_shot=True))


def from_cgroup(
    pid: int, docker_id: str, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> Usage | None:
    """Read the cgroup of a container's main process.

    None when the process is not on this machine: its cgroup must be named after the container, since a pid of another
    machine may be anyone's here.
    """
    try:
        paths = _cgroup_paths((proc / str(pid) / "cgroup").read_text())
        if not paths or not all(docker_id in path for path in paths.values()):
            return None
        folders = {name: cgroups / name / path.lstrip("/") for name, path in paths.items()}
        return _read_v1(folders) if "memory" in folders else _read_v2(folders[""])
    except (OSError, ValueError, KeyError):
        return None


def _cgroup_paths(text: str) -> dict[str, str]:
    """Return the path for each controller that Docker limits; the unified hierarchy is ``""``."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    v1: dict[str, str] = {name: paths[name] for name in ("memory", "cpuacct", "pids", "blkio") if name in paths}
    return v1 if "memory" in v1 else {"": paths[""]}


def _read_v1(folders: Mapping[str, Path]) -> Usage:
    memory, cpu, pids = (folders[name] for name in ("memory", "cpuacct", "pids"))
    cache = _table(memory / "memory.stat")["total_inactive_file"]
    read, written = blocks_v1(folders["blkio"]) if "blkio" in folders else (0, 0)
    return Usage(
        cpu_seconds=_number(cpu / "cpuacct.usage") / 1e9,
        memory_bytes=max(0, _number(memory / "memory.usage_in_bytes") - cache),
        memory_limit_bytes=_limit(_number(memory / "memory.limit_in_bytes")),
        pids=_number(pids / "pids.current"),
        block_read_bytes=read,
        block_write_bytes=written,
    )


def _read_v2(folder: Path) -> Usage:
    cache = _table(folder / "memory.stat")["inactive_file"]
    limit = (folder / "memory.max").read_text().strip()
    read, written = blocks_v2(folder)
    return Usage(
        cpu_seconds=_table(folder / "cpu.stat")["usage_usec"] / 1e6,
        memory_bytes=max(0, _number(folder / "memory.current") - cache),
        memory_limit_bytes=0 if limit == "max" else int(limit),
        pids=_number(folder / "pids.current"),
        block_read_bytes=read,
        block_write_bytes=written,
    )


def from_stats(stats: Mapping[str, Any]) -> Usage:
    """Read the engine's own statistics."""
    memory = stats.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        cpu_seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        memory_bytes=max(0, memory.get("usage", 0) - cache),
        memory_limit_bytes=_limit(memory.get("limit", 0)),
        pids=(stats.get("pids_stats") or {}).get("current", 0),
    )


def _limit(value: int) -> int:
    """Return a limit in bytes, 0 where a huge number means none."""
    return value if value < _UNLIMITED else 0


def _number(path: Path) -> int:
    return int(path.read_text())


def _table(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
