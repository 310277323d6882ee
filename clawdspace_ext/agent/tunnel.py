"""A program's connection, joined to a flow."""

from __future__ import annotations

import os
import socket
import struct

from .flow import Handler
from .pipes import FdReader, FdWriter

MYPY = False
if MYPY:
    from typing import Callable

    from .flow import Flow
    from .loop import Loop


class Tunnel(Handler):
    """A program's connection and the flow it is joined to; each direction ends on its own.

    ``on_close`` is called once, when both have ended or one has failed.
    """

    def __init__(self, loop: Loop, flow: Flow, sock: socket.socket, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._flow = flow
        self._sock = sock
        self._open_halves = 2
        self._writer = FdWriter(loop, os.dup(sock.fileno()))
        try:
            self._reader = FdReader(loop, os.dup(sock.fileno()), self._read, self._read_all)
        except OSError:
            self._writer.close()
            raise

    def _read(self, data: bytes) -> None:
        self._flow.write(data)
        if self._flow.room <= 0:
            self._reader.pause()

    def _read_all(self) -> None:
        self._flow.end()
        self._half_closed()

    def on_data(self, channel: int, data: bytes) -> None:
        """Bytes for the program; without a program, nobody needs the rest."""
        self._writer.write(self._flow, data)
        if self._writer.fd is None:
            self._flow.reset()
            self._close()

    def on_drain(self) -> None:
        """Read on."""
        self._reader.resume()

    def on_end(self) -> None:
        """No more for the program."""
        self._writer.finish(self._written_all)

    def _written_all(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the program is gone already
        self._half_closed()

    def on_reset(self, code: str, text: str) -> None:
        """The other side broke off: so must this connection, or a part would pass for the whole."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def _half_closed(self) -> None:
        self._open_halves -= 1
        if not self._open_halves:
            self._close()

    def _close(self) -> None:
        self._flow.handler = Handler()
        self._reader.close()
        self._writer.close()
        self._sock.close()
        self._on_close()
