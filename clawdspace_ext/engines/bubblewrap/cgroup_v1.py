"""Control groups version 1: a folder per controller, for root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..blocks import blocks_v1
from .cgroups import CPU_PERIOD_US, MAX_PIDS, keyed, make_usable, remove_empty, remove_folder, wait_frozen
from .processes import Counters

_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids", "freezer", "blkio")
_LIMITS = {"memory": "memory", "cpu": "cpus", "pids": "pids"}


class HierarchyV1:
    """The installation's groups; ``folders`` are its folders, by controller, as far as there are any."""

    version = "v1"

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self.enforces = frozenset(limit for controller, limit in _LIMITS.items() if controller in folders)

    def group(self, space_id: str) -> GroupV1:
        """Return the group of a space."""
        return GroupV1({controller: folder / space_id for controller, folder in self._folders.items()})

    def release(self) -> None:
        """Remove the installation's folders that are empty."""
        remove_empty(self._folders.values())


def find_v1(mounts: Mapping[str, Path], name: str) -> HierarchyV1 | None:
    """Return the hierarchy below ``name``, made of the mounted controllers this user may use; None without any."""
    folders = {}
    for controller in _CONTROLLERS:
        if controller in mounts:
            folder = mounts[controller] / name
            if make_usable(folder):
                folders[controller] = folder
    return HierarchyV1(folders) if folders else None


class GroupV1:
    """A space's folders, by controller; they are one and the same where controllers are mounted together."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self.freezes = "freezer" in folders

    @property
    def joins(self) -> Sequence[Path]:
        """One file for each folder."""
        return [folder / "cgroup.procs" for folder in self._distinct]

    @property
    def _distinct(self) -> Sequence[Path]:
        return list(dict.fromkeys(self._folders.values()))

    def create(self) -> None:
        """Make the folders."""
        for folder in self._distinct:
            folder.mkdir(parents=True, exist_ok=True)

    def limit(self, memory: int, cpus: float) -> None:
        """Set what the mounted controllers can limit."""
        if "memory" in self._folders:
            self._limit_memory(memory)
        if "cpu" in self._folders:
            (self._folders["cpu"] / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
            (self._folders["cpu"] / "cpu.cfs_quota_us").write_text(str(int(cpus * CPU_PERIOD_US)))
        if "pids" in self._folders:
            (self._folders["pids"] / "pids.max").write_text(str(MAX_PIDS))

    def _limit_memory(self, memory: int) -> None:
        """The limit of memory alone may never be above that of memory and swap, which some kernels do not count."""
        folder = self._folders["memory"]
        plain, with_swap = folder / "memory.limit_in_bytes", folder / "memory.memsw.limit_in_bytes"
        files = [plain, with_swap] if with_swap.exists() else [plain]
        if int(plain.read_text()) < memory:
            files.reverse()
        for file in files:
            file.write_text(str(memory))

    def freeze(self) -> None:
        """Freeze every member."""
        self._state.write_text("FROZEN")
        wait_frozen(self.frozen, self.thaw)

    def thaw(self) -> None:
        """Let every member run on; a signal sent meanwhile arrives now."""
        self._state.write_text("THAWED")

    def frozen(self) -> bool:
        """Whether all of them are frozen by now."""
        try:
            return self._state.read_text().strip() == "FROZEN"
        except FileNotFoundError:
            return False

    @property
    def _state(self) -> Path:
        return self._folders["freezer"] / "freezer.state"

    def counters(self) -> Counters | None:
        """Count memory without the page cache the kernel would give up first."""
        if not {"memory", "cpuacct", "pids"} <= self._folders.keys():
            return None
        memory = self._folders["memory"]
        cache = keyed(memory / "memory.stat").get("total_inactive_file", 0)
        read, written = blocks_v1(self._folders["blkio"]) if "blkio" in self._folders else (0, 0)
        return Counters(
            cpu_seconds=int((self._folders["cpuacct"] / "cpuacct.usage").read_text()) / 1e9,
            memory_bytes=max(0, int((memory / "memory.usage_in_bytes").read_text()) - cache),
            pids=int((self._folders["pids"] / "pids.current").read_text()),
            block_read_bytes=read,
            block_write_bytes=written,
        )

    def oom_kills(self) -> int:
        """Return how often the memory limit killed a member."""
        if "memory" not in self._folders:
            return 0
        return keyed(self._folders["memory"] / "memory.oom_control").get("oom_kill", 0)

    def remove(self) -> None:
        """Remove the folders."""
        for folder in self._distinct:
            remove_folder(folder)
