"""One conversation with an agent, as the daemon's code reads and writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from .agent.flow import Flow as MuxFlow
from .agent.flow import Handler
from .agent.protocol import WINDOW, LinkError
from .errors import Refused, SpaceError, Unavailable

MAX_MESSAGES = 256


class Chunk(NamedTuple):
    """Bytes that came on a channel of a flow."""

    channel: int
    data: bytes


class Flow(Handler):
    """One conversation with the agent.

    What was read is what the agent may send again: an unread flow holds a window of bytes and MAX_MESSAGES messages.
    """

    def __init__(self) -> None:
        self._mux_flow: MuxFlow | None = None
        self._items: deque[Chunk | dict[str, Any]] = deque()
        self._messages = 0
        self._ended = False
        self._failure: SpaceError | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._room = asyncio.Event()

    # -- for its user ------------------------------------------------------------------------------------------------

    async def read(self) -> Chunk | dict[str, Any] | None:
        """Return the next chunk or message, or None when the agent has ended the flow.

        Raises Refused when the agent gave it up, Unavailable when the session was lost.
        """
        while not self._items:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        item = self._items.popleft()
        if isinstance(item, Chunk):
            self._flow.consumed(len(item.data))
        else:
            self._messages -= 1
        return item

    async def write(self, data: bytes, channel: int = 0) -> None:
        """Send bytes, waiting while a window of them is under way.  Raises what ``read`` raises."""
        for start in range(0, len(data), WINDOW):
            while self._failure is None and self._flow.open and self._flow.room <= 0:
                self._room.clear()
                await self._room.wait()
            if self._failure is not None:
                raise self._failure
            self._flow.write(data[start : start + WINDOW], channel)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message of at most 64 KiB of JSON, in order with the bytes."""
        self._flow.message(message)

    def end(self) -> None:
        """Say that no more will be sent."""
        self._flow.end()

    def reset(self, code: str = "closed", text: str = "") -> None:
        """Give the flow up, and say why; what it started in the space goes on."""
        self._flow.reset(code, text)
        self._items.clear()

    # -- for the mux -------------------------------------------------------------------------------------------------

    def bind(self, flow: MuxFlow) -> None:
        """Take the mux's end; called once, by whoever opened it."""
        self._mux_flow = flow

    def on_data(self, channel: int, data: bytes) -> None:
        """Keep bytes for the reader; credit bounds how many."""
        if data:
            self._items.append(Chunk(channel, data))
            self._wake()

    def on_message(self, message: dict[str, Any]) -> None:
        """Keep a message for the reader."""
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            raise LinkError("the agent sends messages that nobody asked for")
        self._items.append(message)
        self._wake()

    def on_end(self) -> None:
        """Remember that no more comes."""
        self._ended = True
        self._wake()

    def on_reset(self, code: str, text: str) -> None:
        """Remember why it failed."""
        self._failure = Unavailable(text) if code == "lost" else Refused(text or code, reason=code)
        self._room.set()
        self._wake()

    def on_drain(self) -> None:
        """Let the writer go on."""
        self._room.set()

    @property
    def _flow(self) -> MuxFlow:
        assert self._mux_flow is not None
        return self._mux_flow

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
