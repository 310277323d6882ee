"""Control groups version 2: one folder, for root or below what was delegated to the user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ..blocks import blocks_v2
from .cgroups import CPU_PERIOD_US, MAX_PIDS, keyed, make_usable, remove_empty, remove_folder, wait_frozen
from .processes import Counters

_LIMITS = {"memory": "memory", "cpu": "cpus", "pids": "pids"}


class HierarchyV2:
    """The installation's groups below ``base / name``, which hands ``controllers`` down to them."""

    version = "v2"

    def __init__(self, base: Path, name: str) -> None:
        self._base = base
        self._folder = base / name
        self.hand_down()
        self._controllers = _words(self._folder / "cgroup.subtree_control")
        self.enforces = frozenset(limit for controller, limit in _LIMITS.items() if controller in self._controllers)

    def hand_down(self) -> None:
        """Make the installation's folder and let its groups have our controllers, as far as they are there.

        Repeated for each new group: an empty folder may have been removed since, and controllers taken away by who
        delegated them.  A group with members of its own refuses; what it does not hand down is not enforced.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in (self._base, *reversed(_between(self._base, self._folder)), self._folder):
            for controller in sorted(_LIMITS.keys() & _words(folder / "cgroup.controllers")):
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(f"+{controller}")

    def group(self, space_id: str) -> GroupV2:
        """Return the group of a space."""
        return GroupV2(self._folder / space_id, self._controllers, self.hand_down)

    def release(self) -> None:
        """Remove the installation's folder if it is empty, and those above it."""
        remove_empty([self._folder, *_between(self._base, self._folder)])


def find_v2(mount: Path, own: str, name: str) -> HierarchyV2 | None:
    """Return the hierarchy ``name`` for a process in the group ``own``; None where this user may make none."""
    base = _delegated(mount, own)
    return HierarchyV2(base, name) if base is not None and make_usable(base / name) else None


def _between(base: Path, folder: Path) -> list[Path]:
    return [parent for parent in folder.parents if parent != base and parent.is_relative_to(base)]


def _delegated(mount: Path, own: str) -> Path | None:
    """Return the outermost group, from the root to our own, in which this user may make and move."""
    group = mount / own.lstrip("/")
    for folder in (*reversed(group.relative_to(mount).parents), group.relative_to(mount)):
        candidate = mount / folder
        files = (candidate, candidate / "cgroup.procs", candidate / "cgroup.subtree_control")
        if all(os.access(file, os.W_OK) for file in files):
            return candidate
    return None


def _words(file: Path) -> frozenset[str]:
    return frozenset(file.read_text().split())


class GroupV2:
    """A space's folder, with the controllers it has."""

    freezes = True

    def __init__(self, folder: Path, controllers: Iterable[str], hand_down: Callable[[], None]) -> None:
        self._folder = folder
        self._controllers = frozenset(controllers)
        self._hand_down = hand_down
        self.joins = (folder / "cgroup.procs",)

    def create(self) -> None:
        """Make the folder."""
        self._hand_down()
        self._folder.mkdir(exist_ok=True)

    def limit(self, memory: int, cpus: float) -> None:
        """Set what its controllers can limit."""
        if "memory" in self._controllers:
            self._write("memory.max", memory)
            if (self._folder / "memory.swap.max").exists():
                self._write("memory.swap.max", 0)
        if "cpu" in self._controllers:
            self._write("cpu.max", f"{int(cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}")
        if "pids" in self._controllers:
            self._write("pids.max", MAX_PIDS)

    def freeze(self) -> None:
        """Freeze every member."""
        self._write("cgroup.freeze", 1)
        wait_frozen(self.frozen, self.thaw)

    def thaw(self) -> None:
        """Let every member run on."""
        self._write("cgroup.freeze", 0)

    def frozen(self) -> bool:
        """Whether all of them are frozen by now."""
        return keyed(self._folder / "cgroup.events").get("frozen", 0) == 1

    def counters(self) -> Counters | None:
        """Count memory without the page cache the kernel would give up first."""
        if not {"memory", "pids"} <= self._controllers:
            return None
        cache = keyed(self._folder / "memory.stat").get("inactive_file", 0)
        read, written = blocks_v2(self._folder)
        return Counters(
            cpu_seconds=keyed(self._folder / "cpu.stat").get("usage_usec", 0) / 1e6,
            memory_bytes=max(0, int((self._folder / "memory.current").read_text()) - cache),
            pids=int((self._folder / "pids.current").read_text()),
            block_read_bytes=read,
            block_write_bytes=written,
        )

    def oom_kills(self) -> int:
        """Return how often the memory limit killed a member."""
        return keyed(self._folder / "memory.events").get("oom_kill", 0)

    def remove(self) -> None:
        """Remove the folder."""
        remove_folder(self._folder)

    def _write(self, name: str, value: int | str) -> None:
        (self._folder / name).write_text(str(value))
