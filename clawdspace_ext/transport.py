"""How a client's requests get to a server: over the daemon's unix socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .errors import TimedOut, Unavailable

if TYPE_CHECKING:
    from websocket import WebSocket

#: The name of the server in a URL, which means nothing on a unix socket.
_AUTHORITY = "clawdspace"
MAX_IDLE = 8


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes


class Incoming:
    """An answer whose body is read piece by piece.  ``length`` is how many bytes it has, None if nobody said."""

    CHUNK = 256 * 1024

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.length = response.length

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body.  Raises Unavailable when it breaks off."""
        while chunk := self._read(self.CHUNK):
            yield chunk
        if self._response.length:
            raise Unavailable("the answer broke off", remedy="try again")

    def read(self, limit: int) -> bytes:
        """Return the body, or as much of it."""
        return self._read(limit)

    def _read(self, size: int) -> bytes:
        try:
            return self._response.read(size)
        except (OSError, HTTPException) as error:
            raise Unavailable(f"the answer broke off: {error}", remedy="try again") from error


class Transport(Protocol):
    """A way to a server of the API.  Safe to use from many threads."""

    def request(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None
    ) -> Answer:
        """Send a request.  Raises Unavailable when nobody answers, TimedOut when nobody does in time."""

    def stream(
        self, method: str, target: str, body: Iterable[bytes] | None, headers: Mapping[str, str]
    ) -> AbstractContextManager[Incoming]:
        """Send a request piece by piece, and read the answer so while entered.  Raises Unavailable."""

    def websocket(self, target: str, headers: Mapping[str, str]) -> WebSocket:
        """Return a connected websocket.  Raises Unavailable."""

    def close(self) -> None:
        """Hang up."""


class UnixTransport:
    """A ``Transport`` over a unix socket; connections are kept for the next request."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._idle: list[HTTPConnection] = []

    def request(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None
    ) -> Answer:
        """Send a request on a connection that was idle, or on a new one."""
        connection = self._take()
        reusable = False
        try:
            connection.sock.settimeout(timeout)
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
            reusable = not response.will_close and len(self._idle) < MAX_IDLE
        except TimeoutError as error:
            raise TimedOut(f"no answer came in {timeout:g} seconds") from error
        except (OSError, HTTPException) as error:
            raise self._unavailable(error) from error
        finally:
            # Whatever cut the exchange short, KeyboardInterrupt included, left the connection useless.
            if reusable:
                self._idle.append(connection)
            else:
                connection.close()
        return answer

    @contextmanager
    def stream(
        self, method: str, target: str, body: Iterable[bytes] | None, headers: Mapping[str, str]
    ) -> Iterator[Incoming]:
        """Do it on a connection of its own."""
        connection = self._connect()
        try:
            yield self._exchange(connection, method, target, body, headers)
        finally:
            connection.close()

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        target: str,
        body: Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> Incoming:
        chunked = body is not None and "Content-Length" not in headers
        try:
            connection.putrequest(method, target)
            for name, value in headers.items():
                connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
        except OSError as error:
            raise self._unavailable(error) from error
        if body is not None:
            _send(connection, body, chunked=chunked)
        try:
            return Incoming(connection.getresponse())
        except (OSError, HTTPException) as error:
            raise self._unavailable(error) from error

    def websocket(self, target: str, headers: Mapping[str, str]) -> WebSocket:
        """Connect."""
        from websocket import WebSocket, WebSocketException  # noqa: PLC0415  # slow to import, and rarely needed

        connection = WebSocket(skip_utf8_validation=True)
        try:
            connection.connect(  # type: ignore[no-untyped-call]  # the library's types are incomplete
                f"ws://{_AUTHORITY}{target}", socket=self._dial(), header=dict(headers), suppress_origin=True
            )
        except (OSError, WebSocketException) as error:
            raise self._unavailable(error) from error
        return connection

    def close(self) -> None:
        """Hang up what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> HTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if not _hung_up(connection.sock):
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> HTTPConnection:
        connection = HTTPConnection(_AUTHORITY)
        connection.auto_open = 0  # it would look for that name on the network
        connection.sock = self._dial()
        return connection

    def _dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise self._unavailable(error) from error
        return connection

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the daemon at {self._path} does not answer: {getattr(error, 'strerror', None) or error}",
            remedy="try again, which starts one if none runs; 'clawdspace daemon logs' may say more",
        )


def _send(connection: HTTPConnection, body: Iterable[bytes], *, chunked: bool) -> None:
    """Send a body, until all is sent or the other side has heard enough: then its answer tells why."""
    for chunk in body:
        if not chunk:
            continue
        try:
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        except OSError:
            return
    if chunked:
        try:
            connection.send(b"0\r\n\r\n")
        except OSError:
            return


def _hung_up(connection: socket.socket) -> bool:
    """Whether the other side of an idle connection has closed it: else there is nothing to read."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
