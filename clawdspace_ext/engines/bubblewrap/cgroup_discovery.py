"""Which control groups this process may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cgroup_v1 import find_v1
from .cgroup_v2 import find_v2
from .cgroups import Hierarchy


@dataclass(frozen=True, slots=True)
class Mounted:
    """Where control groups are mounted: version 1 by controller, and version 2."""

    v1: Mapping[str, Path]
    v2: Path | None


def find_hierarchy(name: str) -> Hierarchy | None:
    """Return where this installation's groups live, made if need be; None where this user may make none.

    Version 1 goes first: where it holds controllers, version 2 cannot have them.
    """
    mounted = read_mounts(Path("/proc/self/mounts").read_text())
    hierarchy: Hierarchy | None = find_v1(mounted.v1, name)
    if hierarchy is None and mounted.v2 is not None:
        hierarchy = find_v2(mounted.v2, own_group(Path("/proc/self/cgroup").read_text()), name)
    return hierarchy


def read_mounts(text: str) -> Mounted:
    """Read the format of ``/proc/self/mounts``."""
    v1: dict[str, Path] = {}
    v2 = None
    for line in text.splitlines():
        _, folder, kind, options, *_ = line.split(" ")
        if kind == "cgroup":
            v1 |= dict.fromkeys(options.split(","), Path(folder))
        elif kind == "cgroup2":
            v2 = v2 or Path(folder)
    return Mounted(v1, v2)


def own_group(text: str) -> str:
    """Return the version 2 group from the format of ``/proc/self/cgroup``."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    return "/"
