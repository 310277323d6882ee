"""Flows that are connections to servers inside the space: a TCP port on its loopback, or a unix socket."""

from __future__ import annotations

import errno
import os
import socket

from .flow import Flow, Handler
from .pipes import FdReader, FdWriter
from .services import Refuse, number_of, refusal, text_of

MYPY = False
if MYPY:
    from typing import Any, Dict

    from .main import Agent

LOOPBACKS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class Connection(Handler):
    """Carries bytes between a flow and a connected socket, each direction ending on its own."""

    def __init__(self, agent: Agent, flow: Flow, args: Dict[str, Any]) -> None:
        self._agent = agent
        self._flow = flow
        self._sock, target = _socket_for(args)
        self._sock.setblocking(False)
        flow.handler = self
        code = self._sock.connect_ex(target)
        if code not in (0, errno.EINPROGRESS):
            self._sock.close()
            raise refusal(OSError(code, os.strerror(code)), str(target))
        self._target = target
        agent.loop.write(self._sock.fileno(), self._connected)

    def _connected(self) -> None:
        self._agent.loop.forget(self._sock.fileno())
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._sock.close()
            reason = refusal(OSError(code, os.strerror(code)), str(self._target))
            self._flow.handler = Handler()
            self._flow.reset(reason.code, reason.text)
            return
        self._flow.handler = Joined(self._agent, self._flow, self._sock)
        self._flow.message({"connected": True})

    def on_data(self, channel: int, data: bytes) -> None:
        """Bytes before the connection is told: nobody sends those."""
        self.on_reset("invalid", "")
        self._flow.reset("invalid", "wait for the connection before sending")

    def on_reset(self, code: str, text: str) -> None:
        """Nobody wants it any more."""
        self._agent.loop.forget(self._sock.fileno())
        self._sock.close()


class Joined(Handler):
    """A flow and a connected socket."""

    def __init__(self, agent: Agent, flow: Flow, sock: socket.socket) -> None:
        self._flow = flow
        self._sock = sock
        self._reader = FdReader(agent.loop, os.dup(sock.fileno()), self._read, flow.end)
        self._writer = FdWriter(agent.loop, os.dup(sock.fileno()))

    def _read(self, data: bytes) -> None:
        self._flow.write(data)
        if self._flow.room <= 0:
            self._reader.pause()

    def on_data(self, channel: int, data: bytes) -> None:
        """Bytes for the server."""
        self._writer.write(self._flow, data)

    def on_drain(self) -> None:
        """Read on."""
        self._reader.resume()

    def on_end(self) -> None:
        """No more for the server."""
        self._writer.finish(self._shut)

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server is gone already
        self._sock.close()

    def on_reset(self, code: str, text: str) -> None:
        """The other side gave up."""
        self._reader.close()
        self._writer.close()
        self._sock.close()


def _socket_for(args: Dict[str, Any]) -> tuple[socket.socket, Any]:
    if "unix" in args:
        return socket.socket(socket.AF_UNIX), text_of(args, "unix")
    host = text_of(args, "host", "127.0.0.1")
    port = number_of(args, "tcp")
    if host not in LOOPBACKS or not 0 < port < 65536:
        raise Refuse("invalid", "name a unix socket, or a TCP port from 1 to 65535 of 127.0.0.1 or ::1")
    return socket.socket(LOOPBACKS[host]), (host, port)
