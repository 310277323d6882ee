"""Something that is brought up to date after every change, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Follower:
    """Awaits ``update`` after every ``poke``: once for all the pokes that come while one update is under way."""

    def __init__(self, name: str, update: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._update = update
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Say that something has changed."""
        self._poked.set()

    async def run(self) -> None:
        """Follow for ever.  What cannot be written is logged, and tried again after the next change."""
        while True:
            await self._poked.wait()
            self._poked.clear()
            try:
                await self._update()
            except OSError as error:
                log.warning("%s: %s", self._name, error)
