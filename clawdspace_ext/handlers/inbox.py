"""One message at a time, from a websocket to its conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tornado.websocket import WebSocketClosedError, WebSocketHandler

#: Seconds after which a client that is kept waiting is checked to be there still.
PATIENCE = 1.0


class Inbox:
    """A place for one message: ``put`` returns when it was taken, so that a sender waits for a slow reader."""

    def __init__(self) -> None:
        self._message: str | bytes | None = None
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = asyncio.Event()

    async def put(self, message: str | bytes) -> None:
        """Hand a message over; dropped when closed."""
        if self._closed.is_set():
            return
        self._message = message
        self._taken.clear()
        self._arrived.set()
        await self._taken.wait()

    async def get(self) -> str | bytes | None:
        """Return the next message, or None once closed."""
        await self._arrived.wait()
        message, self._message = self._message, None
        if not self._closed.is_set():
            self._arrived.clear()
        self._taken.set()
        return message

    def close(self) -> None:
        """Let everybody go who waits; a message already here is still handed over."""
        self._closed.set()
        self._arrived.set()
        self._taken.set()

    async def closed(self) -> None:
        """Wait until it is closed."""
        await self._closed.wait()


async def keep_waiting(client: WebSocketHandler, work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, during which nothing is read of the client: only a ping can tell that it has left."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=PATIENCE))[0]:
            client.ping()
        task.result()
    except WebSocketClosedError:
        pass  # it has left, and been told to whom it matters
    finally:
        task.cancel()
