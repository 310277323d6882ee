"""The way out of a space: an HTTP proxy on its loopback, each of whose connections the daemon dials.

Programs speak CONNECT, or ask for an absolute ``http://`` URL; the first passes bytes, the second one request.  Each
becomes a flow of kind ``egress`` with ``{host, port}`` that the agent opens.  The daemon answers with the message
``{"connected"}``, or resets the flow and says why.  What may be reached is the daemon's to decide: everything here is
in the hands of the space.
"""

from __future__ import annotations

import socket

from .flow import Handler
from .pipes import READ_SIZE
from .proxy_request import MAX_HEAD, BadRequest, parse
from .services import number_of, refusal
from .tunnel import Tunnel

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

    from .flow import Flow
    from .main import Agent

MAX_CONNECTIONS = 128
HEAD_SECONDS = 30.0
DIAL_SECONDS = 60.0
LINGER_SECONDS = 2.0
PAUSE_SECONDS = 0.2

#: What the daemon's reasons are in HTTP.
_STATUS = {"denied": "403 Forbidden", "invalid": "400 Bad Request", "timeout": "504 Gateway Timeout"}
_BAD_GATEWAY = "502 Bad Gateway"


class Egress:
    """The proxy of one space; nothing listens until the daemon asks for it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._server: Optional[socket.socket] = None
        self._connections = 0
        self.calls: Dict[str, Callable[[Dict[str, Any]], Any]] = {"egress.open": self._open}

    def _open(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Listen, unless that is so already."""
        if self._server is None:
            self._server = _listen(number_of(args, "port"))
            self._watch()
        return {"port": self._server.getsockname()[1]}

    def _watch(self) -> None:
        if self._server is not None:
            wanted = self._connections < MAX_CONNECTIONS
            self.agent.loop.read(self._server.fileno(), self._accept if wanted else None)

    def _accept(self) -> None:
        assert self._server is not None
        try:
            sock, _ = self._server.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors are left: try again when some are
            self.agent.loop.read(self._server.fileno(), None)
            self.agent.loop.later(PAUSE_SECONDS, self._watch)
            return
        self._connections += 1
        self._watch()
        Front(self, sock)

    def closed(self) -> None:
        """One connection less."""
        self._connections -= 1
        self._watch()


class Front(Handler):
    """A program's connection until it is joined to a flow: reads the request, and has the daemon dial."""

    def __init__(self, egress: Egress, sock: socket.socket) -> None:
        self._egress = egress
        self._loop = egress.agent.loop
        self._sock = sock
        self._head = b""
        self._flow: Optional[Flow] = None
        self._first = b""
        self._reply = b""
        sock.setblocking(False)
        self._timer = self._loop.later(HEAD_SECONDS, lambda: self._refuse("408 Request Timeout", "no request came"))
        self._loop.read(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end >= 0:
            self._loop.forget(self._sock.fileno())
            self._dial(self._head[:end], self._head[end + 4 :])
        elif len(self._head) >= MAX_HEAD:
            self._refuse("431 Request Header Fields Too Large", "the request's head is too long")

    def _dial(self, head: bytes, body: bytes) -> None:
        self._head = b""
        try:
            request = parse(head)
            self._first = request.forward + body
            self._reply = b"" if request.forward else b"HTTP/1.1 200 Connection established\r\n\r\n"
            args = {"host": request.host, "port": request.port}
            self._flow = self._egress.agent.open_flow("egress", args, self)
        except BadRequest as error:
            self._refuse("400 Bad Request", str(error))
            return
        except ValueError as error:
            self._refuse("503 Service Unavailable", str(error))
            return
        self._timer.cancel()
        self._timer = self._loop.later(DIAL_SECONDS, self._gave_up)

    def on_message(self, message: Dict[str, Any]) -> None:
        """The daemon is connected."""
        flow, self._flow = self._flow, None
        assert flow is not None
        self._timer.cancel()
        try:
            self._sock.send(self._reply)  # the first bytes on a connection always find room
            flow.handler = Tunnel(self._loop, flow, self._sock, self._egress.closed)
        except OSError:  # the program is gone, or descriptors have run out
            flow.handler = Handler()
            flow.reset()
            self._close()
            return
        flow.write(self._first)

    def on_data(self, channel: int, data: bytes) -> None:
        """Bytes before the connection is told: nobody sends those."""
        if self._flow is not None:
            self._flow.consumed(len(data))

    def on_end(self) -> None:
        """The daemon ends what it never connected."""
        self.on_reset("failed", "the connection ended before it began")

    def on_reset(self, code: str, text: str) -> None:
        """The daemon refuses, or cannot."""
        self._flow = None
        self._refuse(_STATUS.get(code, _BAD_GATEWAY), text or code)

    def _gave_up(self) -> None:
        if self._flow is not None:
            self._flow.reset()
        self.on_reset("timeout", "nobody answered in time")

    def _refuse(self, status: str, text: str) -> None:
        """Answer with an error, and hang up once the program has read it."""
        self._timer.cancel()
        # The reason phrase is all that many programs show.
        text = "".join(c if " " <= c <= "~" else "?" for c in text)[:300]
        body = "clawdspace: %s\n" % text
        lines = ("HTTP/1.1 %s: %s" % (status, text), "Content-Type: text/plain", "Content-Length: %d" % len(body))
        try:
            self._sock.send("\r\n".join((*lines, "Connection: close", "", body)).encode())
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        self._timer = self._loop.later(LINGER_SECONDS, self._close)
        self._loop.read(self._sock.fileno(), self._swallow)

    def _swallow(self) -> None:
        try:
            if self._sock.recv(READ_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close()

    def _close(self) -> None:
        self._timer.cancel()
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._egress.closed()


def _listen(port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        server.close()
        raise refusal(error if isinstance(error, OSError) else OSError(22, "no such port"), "port %d" % port) from None
    server.setblocking(False)
    return server
