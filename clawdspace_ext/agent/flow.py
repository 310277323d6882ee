"""One conversation over the link."""

from __future__ import annotations

import json
from collections import deque

from .protocol import CHUNK, DATA, END, HEADER, MAX_PAYLOAD, MESSAGE, RESET, WINDOW

MYPY = False
if MYPY:
    from typing import Any, Deque, Dict, Tuple

    from .mux import Mux


class Handler:
    """What a flow tells its user; override what matters."""

    def on_data(self, channel: int, data: bytes) -> None:
        """Bytes came; call ``Flow.consumed(len(data))`` when they are dealt with."""

    def on_message(self, message: Dict[str, Any]) -> None:
        """A JSON message came; its credit has been handed back."""

    def on_end(self) -> None:
        """The peer will send no more."""

    def on_reset(self, code: str, text: str) -> None:
        """The peer gave the flow up, or it was lost with its session (code ``lost``)."""

    def on_drain(self) -> None:
        """There is room to write again."""


class Flow:
    """One conversation.  ``handler`` receives; ``write``, ``message``, ``end`` and ``reset`` send."""

    __slots__ = ("_mux", "_queue", "_queued_bytes", "credit", "ended", "handler", "id", "remote_ended", "unread")

    def __init__(self, mux: Mux, flow_id: int) -> None:
        self._mux = mux
        self.id = flow_id
        self.handler = Handler()
        self.credit = WINDOW
        self.unread = 0
        self._queue: Deque[Tuple[int, int, bytes]] = deque()
        self._queued_bytes = 0
        self.ended = False
        self.remote_ended = False

    @property
    def room(self) -> int:
        """How many bytes may be written before ``on_drain`` should be waited for."""
        return WINDOW - self._queued_bytes

    @property
    def open(self) -> bool:
        """Whether the flow still exists."""
        return self._mux.flows.get(self.id) is self

    def write(self, data: bytes, channel: int = 0) -> None:
        """Queue bytes on a channel (0 to 255)."""
        if self.ended or not self.open:
            return
        for start in range(0, len(data), CHUNK):
            self._put(DATA, channel, data[start : start + CHUNK])

    def message(self, message: Dict[str, Any]) -> None:
        """Queue a JSON message, in order with the data; at most MAX_PAYLOAD bytes of UTF-8."""
        if self.ended or not self.open:
            return
        payload = json.dumps(message, separators=(",", ":")).encode()
        if len(payload) > MAX_PAYLOAD:
            raise ValueError("a message must fit in one frame")
        self._put(MESSAGE, 0, payload)

    def end(self) -> None:
        """Say that no more will be sent; the flow closes when both sides have."""
        if self.ended or not self.open:
            return
        self._put(END, 0, b"")
        self.ended = True

    def reset(self, code: str = "closed", text: str = "") -> None:
        """Give the flow up at once, dropping what is queued."""
        if not self.open:
            return
        self._mux.drop(self)
        self._mux.control(RESET, self.id, json.dumps({"code": code, "text": text[:2000]}).encode())

    def consumed(self, size: int) -> None:
        """Hand credit back for received bytes that have been dealt with."""
        self.unread -= size
        if self.open and not self.remote_ended:
            self._mux.give_credit(self, size)

    # -- for the mux -------------------------------------------------------------------------------------------------

    @property
    def pending_frames(self) -> int:
        """How many frames wait to be sent."""
        return len(self._queue)

    def next_frame(self) -> bytes:
        """Take the next frame for the wire, or nothing while there is no credit for it."""
        if not self._queue or len(self._queue[0][2]) > self.credit:
            return b""
        kind, channel, payload = self._queue.popleft()
        was_full = self.room <= 0
        self.credit -= len(payload)
        self._queued_bytes -= len(payload)
        if was_full and self.room > 0:
            self.handler.on_drain()
        return HEADER.pack(len(payload), self.id, kind, channel) + payload

    def forget(self) -> None:
        """Drop what waits."""
        self._queue.clear()
        self._queued_bytes = 0

    def _put(self, kind: int, channel: int, payload: bytes) -> None:
        self._queue.append((kind, channel, payload))
        self._queued_bytes += len(payload)
        self._mux.ready(self)
