"""One request to the daemon and its answer, both passed on piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPOutputError,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError

from ..errors import Unavailable
from .pipe import Pipe

CHUNK = 128 * 1024
_NO_LIMIT = 2**62


class _Answer(HTTPMessageDelegate):
    """Hands over what comes back."""

    def __init__(self) -> None:
        self.head: asyncio.Future[tuple[int, HTTPHeaders]] = asyncio.get_running_loop().create_future()
        self.body = Pipe()

    def headers_received(self, start_line: object, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, ResponseStartLine)
        if not self.head.done():
            self.head.set_result((start_line.code, headers))

    def data_received(self, chunk: bytes) -> Awaitable[None]:
        return self.body.put(chunk)

    def finish(self) -> None:
        self.body.end()

    def on_connection_close(self) -> None:
        self.body.break_off("the daemon went away")
        if not self.head.done():
            self.head.set_exception(Unavailable("the daemon went away", remedy="try again"))


class Exchange:
    """Takes a connection to the daemon for one request.  ``answer`` yields the answer's body once ``head`` is there."""

    def __init__(self, stream: IOStream) -> None:
        self._stream = stream
        parameters = HTTP1ConnectionParameters(no_keep_alive=True, chunk_size=CHUNK, max_body_size=_NO_LIMIT)
        self._connection = HTTP1Connection(stream, True, parameters)
        self._answer = _Answer()
        self.answer = self._answer.body

    async def begin(self, method: str, target: str, headers: HTTPHeaders) -> None:
        """Send the head of the request."""
        headers["Host"] = "clawdspace"
        headers["Connection"] = "close"
        try:
            await self._connection.write_headers(RequestStartLine(method, target, "HTTP/1.1"), headers)
        except StreamClosedError:
            raise Unavailable("the daemon went away", remedy="try again") from None
        self._reading = asyncio.ensure_future(self._connection.read_response(self._answer))
        self._reading.add_done_callback(_heard)

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body, waiting for a slow daemon; dropped once the daemon has hung up."""
        try:
            await self._connection.write(chunk)
        except StreamClosedError:
            pass  # it has refused; ``head`` tells why

    def finish(self) -> None:
        """Say that the body was all."""
        try:
            self._connection.finish()
        except (HTTPOutputError, StreamClosedError):
            pass

    async def head(self) -> tuple[int, HTTPHeaders]:
        """Return status and headers of the answer.  Raises Unavailable."""
        return await asyncio.shield(self._answer.head)

    def close(self) -> None:
        """Hang up."""
        self.answer.abandon()
        self._answer.on_connection_close()
        if self._answer.head.done():
            self._answer.head.exception()  # it may have gone unasked for
        self._stream.close()


def _heard(reading: asyncio.Future[bool]) -> None:
    """Take note of how reading ended: who waits for the answer has been told."""
    if not reading.cancelled():
        reading.exception()
