"""How many messages of a kernel have been passed on: a number that survives the daemon's sudden death."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

_NUMBER = struct.Struct("<Q")


class Counter:
    """A number in a file mapped into memory: to set it is no system call, and ``kill -9`` does not lose it.

    Without it, messages that were passed on but not yet acknowledged would reach clients twice, and jupyter_client
    takes a signature that it has seen for an attack.
    """

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, _NUMBER.size)
            self._map = mmap.mmap(fd, _NUMBER.size)
        finally:
            os.close(fd)

    @property
    def value(self) -> int:
        """The number."""
        return int(_NUMBER.unpack_from(self._map)[0])

    @value.setter
    def value(self, number: int) -> None:
        _NUMBER.pack_into(self._map, 0, number)

    def close(self) -> None:
        """Let the file go."""
        self._map.close()
