"""Pieces on their way from one connection to another: one at a time, so that a sender waits for a slow reader."""

from __future__ import annotations

import asyncio

from ..errors import Unavailable


class Pipe:
    """``put`` returns when the piece was taken; iterating yields the pieces up to ``end``."""

    def __init__(self) -> None:
        self._chunk: bytes | None = None
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False
        self._broken: str | None = None
        self._abandoned = False
        self.wanted = asyncio.Event()

    async def put(self, chunk: bytes) -> None:
        """Hand a piece over; it is dropped when nobody wants it any more."""
        if self._abandoned:
            return
        self._taken.clear()
        self._chunk = chunk
        self._changed.set()
        await self._taken.wait()

    def end(self) -> None:
        """That was all."""
        self._ended = True
        self._changed.set()

    def break_off(self, why: str) -> None:
        """No more will come although it was not all."""
        if not self._ended:
            self._broken = why
            self._changed.set()

    def abandon(self) -> None:
        """Nobody reads any more: let whoever sends go on."""
        self._abandoned = True
        self._taken.set()

    def __aiter__(self) -> Pipe:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece.  Raises Unavailable when it was broken off."""
        self.wanted.set()
        while self._chunk is None:
            if self._broken is not None:
                raise Unavailable(self._broken)
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        chunk, self._chunk = self._chunk, None
        self._taken.set()
        return chunk
