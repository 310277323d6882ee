"""The daemon as a Jupyter server reaches it: requests and websockets over its unix socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import Resolver
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from ..errors import Unavailable
from .route import MAX_MESSAGE

#: The URL's host; the resolver sends it to the socket, and to the daemon it means nothing.
_AUTHORITY = "clawdspace"
MAX_ANSWER = 256 * 1024 * 1024
MAX_REQUESTS = 1024
CONNECT_TIMEOUT = 10.0

#: Nobody listens there: nothing of the request has been sent, so that it can be sent to another daemon.
_NOBODY = (FileNotFoundError, ConnectionRefusedError)
_LOST = (OSError, HTTPClientError, StreamClosedError, WebSocketError)

T = TypeVar("T")


class _SocketFile(Resolver):
    """Resolves every name to one unix socket, which may move."""

    path: str = ""

    async def resolve(self, *_args: Any, **_kwargs: Any) -> list[tuple[int, Any]]:
        return [(socket.AF_UNIX, self.path)]


class Upstream:
    """``locate`` returns the socket of a running daemon, starting one if need be; it may block."""

    def __init__(self, locate: Callable[[], Path]) -> None:
        self._locate = locate
        self._locating = asyncio.Lock()
        self._resolver = _SocketFile()
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, resolver=self._resolver, max_clients=MAX_REQUESTS, max_buffer_size=MAX_ANSWER
        )

    async def fetch(self, method: str, target: str, headers: HTTPHeaders, body: bytes) -> HTTPResponse:
        """Return the daemon's answer, whatever its status.  Raises Unavailable when there is none."""
        request = HTTPRequest(
            f"http://{_AUTHORITY}{target}",
            method,
            headers,
            body=body if body or method in ("POST", "PUT", "PATCH") else None,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            decompress_response=False,
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=0,  # a command takes the time it takes
        )
        return await self._reach(lambda: self._client.fetch(request, raise_error=False))

    async def connect(self, target: str, headers: HTTPHeaders) -> WebSocketClientConnection:
        """Return a connected websocket.  Raises Unavailable."""

        def connect() -> Awaitable[WebSocketClientConnection]:
            url = f"ws://{_AUTHORITY}{target}"
            request = HTTPRequest(url, headers=headers.copy(), connect_timeout=CONNECT_TIMEOUT)
            return websocket_connect(request, resolver=self._resolver, max_message_size=2 * MAX_MESSAGE)

        return await self._reach(connect)

    async def dial(self) -> IOStream:
        """Return a connection to the daemon.  Raises Unavailable."""

        async def connect() -> IOStream:
            stream = IOStream(socket.socket(socket.AF_UNIX), max_write_buffer_size=MAX_ANSWER)
            return await stream.connect(self._resolver.path)

        return await self._reach(connect)

    def close(self) -> None:
        """Give up what is under way."""
        self._client.close()

    async def _reach(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, once more when the daemon turns out to have left or moved."""
        path = await self._find(stale="")
        try:
            try:
                return await call()
            except _NOBODY:
                await self._find(stale=path)
                return await call()
        except _LOST as error:
            raise Unavailable(
                f"the daemon does not answer: {error or type(error).__name__}",
                remedy="try again; 'clawdspace daemon logs' may say more",
            ) from error

    async def _find(self, stale: str) -> str:
        """Return where the daemon listens; looks again only if that is still thought to be at ``stale``."""
        async with self._locating:
            if self._resolver.path == stale:
                self._resolver.path = str(await asyncio.to_thread(self._locate))
            path: str = self._resolver.path
            return path
