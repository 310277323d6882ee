"""The transport under the link: a pair of descriptors, its hello, and the pumping of a mux through it."""

from __future__ import annotations

import os

from .hello import read_hello
from .loop import Loop
from .mux import Mux
from .protocol import LinkError

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

READ_SIZE = 256 * 1024
WRITE_SIZE = 128 * 1024
HELLO_TIMEOUT = 10.0
MAX_HELLO = 128 * 1024


class Transport:
    """One connection of the daemon.

    ``on_hello(transport, fields)`` is called once, and answers with ``accept`` or ``refuse``.  ``on_close`` is called
    when the connection is over, whatever the reason.  ``guard``, if given, is a descriptor whose end means the same.
    """

    def __init__(
        self,
        loop: Loop,
        read_fd: int,
        write_fd: int,
        on_hello: Callable[[Transport, Dict[str, Any]], None],
        on_close: Callable[[Transport], None],
        guard: int = -1,
    ) -> None:
        self._loop = loop
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._guard = guard
        self._on_hello = on_hello
        self._on_close = on_close
        self._mux: Optional[Mux] = None
        self._hello = b""
        self._out = b""
        self._flushing = False
        self.closed = False
        self._timer = loop.later(HELLO_TIMEOUT, self.close)
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        loop.read(read_fd, self._readable)
        if guard >= 0:
            loop.read(guard, self.close)

    def accept(self, reply: bytes, mux: Mux, received: int) -> None:
        """Answer the hello and carry ``mux`` from now on.  Raises LinkError when ``received`` is a lie."""
        self._timer.cancel()
        mux.attach(received)
        mux.wake = self._wake  # type: ignore[method-assign]  # the transport is what drives it
        self._mux = mux
        self._out += reply
        self._wake()

    def refuse(self, reply: bytes) -> None:
        """Answer the hello and hang up."""
        self._out += reply
        self._flush()
        self.close()

    def close(self) -> None:
        """Hang up; safe to repeat."""
        if self.closed:
            return
        self.closed = True
        self._timer.cancel()
        for fd in {self._read_fd, self._write_fd, self._guard} - {-1}:
            self._loop.forget(fd)
            os.close(fd)
        if self._mux is not None:
            self._mux.detach()
            self._mux.wake = lambda: None  # type: ignore[method-assign]  # nothing drives it until the next transport
        self._on_close(self)

    def _readable(self) -> None:
        try:
            data = os.read(self._read_fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            self._take(data)
        except LinkError:
            self.close()

    def _take(self, data: bytes) -> None:
        if self._mux is not None:
            self._mux.receive(data)
            return
        self._hello += data
        hello = read_hello(self._hello)
        if hello is not None:
            self._hello = b""
            fields, rest = hello
            self._on_hello(self, fields)
            if rest and self._mux is not None:
                self._mux.receive(rest)
        elif len(self._hello) > MAX_HELLO:
            raise LinkError("an endless hello")

    def _wake(self) -> None:
        if not self._flushing and not self.closed:
            self._flushing = True
            self._loop.soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self.closed:
            return
        while True:
            if not self._out and self._mux is not None:
                self._out = self._mux.pull(WRITE_SIZE)
            if not self._out:
                self._loop.write(self._write_fd, None)
                return
            try:
                self._out = self._out[os.write(self._write_fd, self._out) :]
            except BlockingIOError:
                self._loop.write(self._write_fd, self._flush)
                return
            except OSError:
                self.close()
                return
