"""Control groups: the limits, counters and the freezing of a space, by version 1 or 2, as far as this user may.

A space's group is ``clawdspace/<installation>/<space>``.  bubblewrap's monitor is in it as well, since it joins before
it starts anything.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ...errors import Unavailable
from .processes import Counters

MAX_PIDS = 512
CPU_PERIOD_US = 100_000

_FREEZE_SECONDS = 2.0
_REMOVE_SECONDS = 1.0
_POLL_SECONDS = 0.001


class Group(Protocol):
    """The control group of one space."""

    @property
    def joins(self) -> Sequence[Path]:
        """Files into which a process writes ``0`` to become a member."""

    @property
    def freezes(self) -> bool:
        """Whether ``freeze`` works here; processes must be stopped by signals otherwise."""

    def create(self) -> None:
        """Make the group; it may exist already."""

    def limit(self, memory: int, cpus: float) -> None:
        """Set the limits, in bytes of memory (no swap beside it) and in CPUs; MAX_PIDS processes."""

    def freeze(self) -> None:
        """Freeze every member.  Raises Unavailable, with all of them running on, when that fails."""

    def thaw(self) -> None:
        """Let every member run on."""

    def frozen(self) -> bool:
        """Whether the members are frozen."""

    def counters(self) -> Counters | None:
        """Return what the members use, None where not all of it is counted."""

    def oom_kills(self) -> int:
        """Return how often the memory limit killed a member."""

    def remove(self) -> None:
        """Remove the group, whose members have ended; nothing there is no error."""


class Hierarchy(Protocol):
    """Where the groups of this installation live."""

    @property
    def version(self) -> str:
        """``v1`` or ``v2``."""

    @property
    def enforces(self) -> frozenset[str]:
        """Which of ``memory``, ``cpus`` and ``pids`` its groups can limit."""

    def group(self, space_id: str) -> Group:
        """Return the group of a space, whether it exists or not."""

    def release(self) -> None:
        """Remove what the installation itself has, if no space is left in it."""


def wait_frozen(read: Callable[[], bool], thaw: Callable[[], None]) -> None:
    """Wait until ``read`` says that all are frozen; else ``thaw`` them and raise Unavailable."""
    deadline = time.monotonic() + _FREEZE_SECONDS
    while not read():
        if time.monotonic() > deadline:
            thaw()
            raise Unavailable("the space cannot be frozen", remedy="try again, or stop the space")
        time.sleep(_POLL_SECONDS)


def make_usable(folder: Path) -> bool:
    """Make a control group; return whether this user may make others in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # mounted read-only, as in most containers, or somebody else's
        return False
    return os.access(folder, os.W_OK)


def remove_folder(folder: Path) -> None:
    """Remove one control group, waiting for its last members to be gone.  Raises OSError when they stay."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the control groups among some that have neither members nor groups in them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def keyed(file: Path) -> dict[str, int]:
    """Return the values of a file of ``name number`` lines; none when it does not exist."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: int(value) for name, value in (line.split() for line in lines)}
