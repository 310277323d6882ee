"""The process that asked for a kernel: known again after the daemon restarts, and missed when it is gone."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Owner:
    """A process of this user.  ``started`` (clock ticks since boot) tells it from a later one with the same number."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Return the process as an owner.  Raises InvalidRequest when it is not there or belongs to another user."""
        found = _uid_and_start(pid)
        if found is None or found[0] != os.geteuid():
            raise InvalidRequest(
                f"{pid} is no process of yours that the daemon can see",
                field="ownerPid",
                remedy="name a process on the daemon's machine, outside containers",
            )
        return cls(pid, found[1])

    async def gone(self) -> None:
        """Return when it has ended, however it did."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        try:
            found = _uid_and_start(self.pid)
            if found is not None and found[1] == self.started:
                loop.add_reader(handle, ended.set)
                await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)


def _uid_and_start(pid: int) -> tuple[int, int] | None:
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        return folder.stat().st_uid, int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        return None
