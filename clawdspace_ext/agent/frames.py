"""Messages of several parts in a byte stream, framed as ZMTP frames them.

ZeroMQ sockets speak so, and so does the flow between the agent and the daemon that carries a kernel's messages.
Whatever a peer sends has a bound: a message beyond it is swallowed as it comes and counted, so that the next one still
arrives; anything out of order raises ZmtpError, after which the stream must be given up.
"""

from __future__ import annotations

import struct

MYPY = False
if MYPY:
    from typing import List, Sequence

MAX_MESSAGE = 128 * 1024 * 1024
MAX_PARTS = 1024
MAX_COMMAND = 4096
#: Bytes from which a part is worth not being copied.
LARGE = 64 * 1024

MORE, LONG, COMMAND = 1, 2, 4
_SHORT_SIZE = struct.Struct(">BB")
_LONG_SIZE = struct.Struct(">BQ")


class ZmtpError(Exception):
    """The peer does not keep to the protocol, or cannot be talked to."""


def head(flags: int, size: int) -> bytes:
    """Return what goes before the ``size`` bytes of a frame."""
    return _SHORT_SIZE.pack(flags, size) if size < 256 else _LONG_SIZE.pack(flags | LONG, size)


def encode(parts: Sequence[bytes]) -> bytes:
    """Return the frames of one message."""
    return b"".join(pieces(parts))


def pieces(parts: Sequence[bytes]) -> List[bytes]:
    """Return the frames of one message in pieces, with no copy made of the large parts."""
    found = []
    small = bytearray()
    last = len(parts) - 1
    for index, part in enumerate(parts):
        small += head(MORE if index < last else 0, len(part))
        if len(part) < LARGE:
            small += part
        else:
            found += [bytes(small), part]
            small = bytearray()
    return [*found, bytes(small)] if small else found


class Framer:
    """Finds the messages in a stream of frames.

    A message of more than ``max_message`` bytes or MAX_PARTS parts is swallowed as it comes, and counted.
    """

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self.swallowed = 0
        self._max_message = max_message
        self._buffer = bytearray()
        self._parts: List[bytes] = []
        self._size = 0
        self._swallowing = False
        self._skip = 0

    def receive(self, data: bytes) -> List[List[bytes]]:
        """Return the messages that ``data`` completes.  Raises ZmtpError."""
        buffer = self._buffer
        buffer += data
        messages: List[List[bytes]] = []
        position = 0
        try:
            while True:
                if self._skip:
                    skipped = min(self._skip, len(buffer) - position)
                    self._skip -= skipped
                    position += skipped
                end = self._frame(position, messages)
                if end == position:
                    return messages
                position = end
        finally:
            del buffer[:position]

    def command(self, body: bytes) -> None:
        """Take a command; a stream of mere messages has none."""
        raise ZmtpError("a command where only messages are expected: %r" % body[:20])

    def _frame(self, position: int, messages: List[List[bytes]]) -> int:
        """Take the frame at ``position`` and return where it ends, or ``position`` when it is not all there."""
        buffer = self._buffer
        if len(buffer) - position < _SHORT_SIZE.size:
            return position
        flags = buffer[position]
        layout = _LONG_SIZE if flags & LONG else _SHORT_SIZE
        start = position + layout.size
        if len(buffer) < start:
            return position
        size = int(layout.unpack_from(buffer, position)[1])
        end = start + size
        if flags & COMMAND:
            if size > MAX_COMMAND or flags & MORE:
                raise ZmtpError("a command of %d bytes" % size)
        elif flags & ~(MORE | LONG):
            raise ZmtpError("a frame with the flags %d" % flags)
        elif self._swallowing or self._size + size > self._max_message or len(self._parts) >= MAX_PARTS:
            self._swallow(flags, size)
            return start
        if len(buffer) < end:
            return position
        with memoryview(buffer) as view:
            body = bytes(view[start:end])
        if flags & COMMAND:
            self.command(body)
        else:
            self._part(flags, body, messages)
        return end

    def _part(self, flags: int, part: bytes, messages: List[List[bytes]]) -> None:
        self._parts.append(part)
        self._size += len(part)
        if not flags & MORE:
            messages.append(self._parts)
            self._parts, self._size = [], 0

    def _swallow(self, flags: int, size: int) -> None:
        self._parts, self._size = [], 0
        self._skip = size
        self._swallowing = bool(flags & MORE)
        if not self._swallowing:
            self.swallowed += 1
