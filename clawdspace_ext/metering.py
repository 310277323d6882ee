"""How busy a space is: a share of time, from counters that only grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .spaces import Stats, Usage

#: Seconds between the two readings of a space that nobody has looked at yet.
FIRST_WAIT = 0.004
#: Seconds that a comparison covers at least, once there are earlier readings.
SPAN = 0.1
#: Seconds after which a new reading is kept to compare with.
LIFETIME = 1.0


class _Reading(NamedTuple):
    at: float
    usage: Usage


class Meter:
    """Keeps two earlier readings of each space, so that one new reading is enough for an answer."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[_Reading, _Reading]] = {}

    async def stats(self, space_id: str, read: Callable[[], Awaitable[Usage]]) -> Stats:
        """Return the counters and how busy the CPUs were; the first time that is measured on the spot."""
        now = await _reading(read)
        older, newer = self._kept.get(space_id, (now, now))
        if space_id not in self._kept or newer.usage.cpu_seconds > now.usage.cpu_seconds:  # unknown, or started anew
            older = newer = now
            self._kept[space_id] = (now, now)
            await asyncio.sleep(FIRST_WAIT)
            now = await _reading(read)
        elif now.at - newer.at > LIFETIME:
            self._kept[space_id] = (newer, now)
        before = newer if now.at - newer.at >= SPAN else older
        busy, passed = now.usage.cpu_seconds - before.usage.cpu_seconds, now.at - before.at
        return Stats(now.usage, round(max(0.0, 100 * busy / passed), 2) if passed > 0 else 0.0)

    def forget(self, space_id: str) -> None:
        """Let go of a space."""
        self._kept.pop(space_id, None)


async def _reading(read: Callable[[], Awaitable[Usage]]) -> _Reading:
    usage = await read()
    return _Reading(time.monotonic(), usage)
