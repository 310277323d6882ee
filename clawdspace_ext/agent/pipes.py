"""Descriptors tied to flows, with back-pressure both ways and no more than a window in memory."""

from __future__ import annotations

import os
from collections import deque

from .flow import Flow
from .loop import Loop
from .protocol import WINDOW

MYPY = False
if MYPY:
    from typing import Callable, Deque, Optional, Tuple

READ_SIZE = 64 * 1024


class FdReader:
    """Reads a non-blocking descriptor while ``wanted``; ``on_end`` is called once, with the descriptor closed."""

    def __init__(self, loop: Loop, fd: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._loop = loop
        self._on_data = on_data
        self._on_end = on_end
        self.fd: Optional[int] = fd
        os.set_blocking(fd, False)
        self.resume()

    def resume(self) -> None:
        """Read on."""
        if self.fd is not None:
            self._loop.read(self.fd, self.pump)

    def pause(self) -> None:
        """Read no more for now: the writer will block."""
        if self.fd is not None:
            self._loop.read(self.fd, None)

    def pump(self) -> bool:
        """Take what is there now; return whether there was something."""
        if self.fd is None:
            return False
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose last user is gone reports EIO for its end
        if data:
            self._on_data(data)
            return True
        self.close()
        self._on_end()
        return False

    def close(self) -> None:
        """Give the descriptor up."""
        if self.fd is not None:
            self._loop.forget(self.fd)
            os.close(self.fd)
            self.fd = None


class FdWriter:
    """Writes data of flows to a non-blocking descriptor and hands their credit back as it is written.

    ``finish`` closes the descriptor after what is queued.  When the reader is gone, what is queued is dropped, and more
    is swallowed: the flow's other half decides what that means.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._queue: Deque[Tuple[Flow, bytes]] = deque()
        self._finishing: Optional[Callable[[], None]] = None
        self.fd: Optional[int] = fd
        os.set_blocking(fd, False)

    def write(self, flow: Flow, data: bytes) -> None:
        """Queue bytes that came on a flow."""
        if self.fd is None:
            flow.consumed(len(data))
            return
        self._queue.append((flow, data))
        if len(self._queue) == 1:
            self._pump()

    def finish(self, then: Callable[[], None] = lambda: None) -> None:
        """Close after the queue is written, and call ``then``."""
        self._finishing = then
        if not self._queue:
            self._end()

    def _end(self) -> None:
        self.close()
        if self._finishing is not None:
            self._finishing()

    def close(self) -> None:
        """Give the descriptor up now."""
        if self.fd is not None:
            self._loop.write(self.fd, None)
            os.close(self.fd)
            self.fd = None
        while self._queue:
            flow, data = self._queue.popleft()
            flow.consumed(len(data))

    def _pump(self) -> None:
        while self._queue and self.fd is not None:
            flow, data = self._queue[0]
            try:
                written = os.write(self.fd, data)
            except BlockingIOError:
                self._loop.write(self.fd, self._pump)
                return
            except OSError:
                self._end()
                return
            flow.consumed(written)
            if written == len(data):
                self._queue.popleft()
            else:
                self._queue[0] = (flow, data[written:])
        if self.fd is not None:
            self._loop.write(self.fd, None)
            if self._finishing is not None:
                self._end()


class Tail:
    """The last bytes of an output, with the offset at which they begin."""

    def __init__(self, keep: int = WINDOW) -> None:
        self._keep = keep
        self._chunks: Deque[bytes] = deque()
        self._size = 0
        self.total = 0

    def add(self, data: bytes) -> None:
        """Append, forgetting the oldest beyond the bound."""
        self._chunks.append(data)
        self._size += len(data)
        self.total += len(data)
        while self._size - len(self._chunks[0]) >= self._keep:
            self._size -= len(self._chunks.popleft())

    def since(self, offset: int) -> bytes:
        """Return what is still kept of the bytes from ``offset`` on."""
        kept = b"".join(self._chunks)
        return kept[max(0, offset - (self.total - len(kept))) :]
