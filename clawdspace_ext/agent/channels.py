"""One of a kernel's sockets, with the agent as its client."""

from __future__ import annotations

import socket
from collections import deque

from .frames import ZmtpError, encode
from .loop import Loop
from .zmtp import Codec

MYPY = False
if MYPY:
    from typing import Callable, Deque, List, Optional

READ_SIZE = 256 * 1024


class Channel:
    """A DEALER or SUB on a unix socket.

    Messages may be sent at any time: they wait until the channel is connected and ``release`` was called.  ``pending``
    is how many bytes wait; ``on_drain`` is called whenever that gets less.  A channel that broke swallows what is sent.
    """

    def __init__(
        self,
        loop: Loop,
        socket_type: str,
        identity: bytes,
        on_message: Callable[[List[bytes]], None],
        on_drain: Callable[[], None],
    ) -> None:
        self.pending = 0
        self.connected = False
        self._loop = loop
        self._codec = Codec(socket_type, identity)
        self._subscribes = socket_type == "SUB"
        self._on_message = on_message
        self._on_drain = on_drain
        self._sock: Optional[socket.socket] = None
        self._released = False
        self._reading = True
        self._queue: Deque[bytes] = deque()
        self._out = memoryview(b"")

    @property
    def swallowed(self) -> int:
        """How many messages were too large to pass."""
        return self._codec.swallowed

    def connect(self, path: str) -> bool:
        """Try to connect; the kernel may not listen yet."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            return False
        self._sock = sock
        self.connected = True
        self._watch()
        self._flush()
        return True

    def release(self) -> None:
        """Let waiting messages go."""
        self._released = True
        self._flush()

    def send(self, parts: List[bytes]) -> None:
        """Queue a message."""
        if self.connected and self._sock is None:
            return
        data = encode(parts)
        self._queue.append(data)
        self.pending += len(data)
        self._flush()

    def read(self, wanted: bool) -> None:
        """Read on, or no more for now: the kernel will block."""
        if wanted != self._reading:
            self._reading = wanted
            self._watch()

    def _watch(self) -> None:
        if self._sock is not None:
            self._loop.read(self._sock.fileno(), self._readable if self._reading else None)

    def pump(self) -> bool:
        """Take what is there now; return whether there was something."""
        if self._sock is None:
            return False
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._take(data)
        return True

    def close(self) -> None:
        """Give the socket up; safe to repeat."""
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._queue.clear()
        self._out = memoryview(b"")
        if self.pending:
            self.pending = 0
            self._on_drain()

    def _readable(self) -> None:
        self.pump()

    def _take(self, data: bytes) -> None:
        try:
            messages = self._codec.receive(data)
        except ZmtpError:
            self.close()
            return
        for message in messages:
            self._on_message(message)
        self._flush()

    def _flush(self) -> None:
        while self._sock is not None:
            if not self._out:
                self._out = memoryview(self._next())
            if not self._out:
                self._loop.write(self._sock.fileno(), None)
                return
            try:
                self._out = self._out[self._sock.send(self._out) :]
            except BlockingIOError:
                self._loop.write(self._sock.fileno(), self._flush)
                return
            except OSError:
                self.close()

    def _next(self) -> bytes:
        """Return the next bytes to send: first what the protocol has to say."""
        data = self._codec.outgoing()
        if data or not self._codec.ready:
            return data
        if self._subscribes:
            self._subscribes = False
            return self._codec.subscribe()
        if not self._released or not self._queue:
            return b""
        data = self._queue.popleft()
        self.pending -= len(data)
        self._on_drain()
        return data
