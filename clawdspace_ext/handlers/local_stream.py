"""Paths on the daemon's socket whose bodies and answers are passed on piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, cast

from tornado import iostream, web
from tornado.http1connection import HTTP1Connection

from ..errors import SpaceError
from ..wire import dumps
from .errors import JsonErrors
from .pipe import Pipe
from .requesting import request_of
from .route import MAX_UPLOAD, Download, Reply, Route


@web.stream_request_body
class LocalStream(JsonErrors):
    """One path: runs the verb of the method while the body still comes."""

    body_unread = True

    def initialize(self, host: Any, routes: Mapping[str, Route]) -> None:
        """Take what the table says of this path."""
        self._host = host
        self._routes = routes
        self._pipe = Pipe()
        self.allowed = routes.keys()

    async def prepare(self) -> None:
        """Start the verb, and read the body only once it wants it: what is refused need not be sent first."""
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise web.HTTPError(405)
        cast("HTTP1Connection", self.request.connection).set_max_body_size(MAX_UPLOAD)
        request = request_of(self.request, self.path_kwargs, self._pipe)
        self._verb = asyncio.ensure_future(route.verb(self._host, request))
        self._verb.add_done_callback(self._answered)
        wanted = asyncio.create_task(self._pipe.wanted.wait())
        await asyncio.wait({self._verb, wanted}, return_when=asyncio.FIRST_COMPLETED)
        wanted.cancel()
        if self._verb.done():
            self._verb.result()

    async def data_received(self, chunk: bytes) -> None:
        """Hand a piece of the body over."""
        await self._pipe.put(chunk)

    def on_connection_close(self) -> None:
        """The client is gone: what it sent is not all."""
        self._pipe.break_off("the client is gone")

    async def _serve(self, **_path: str) -> None:
        self.body_unread = False
        self._pipe.end()
        answer = await self._verb
        self.set_status(answer.status)
        self.set_header("Content-Type", answer.content_type)
        if isinstance(answer, Download):
            await self._send(answer)
        else:
            self.finish(dumps(answer.body))

    get = post = put = patch = delete = _serve

    async def _send(self, answer: Download) -> None:
        for name, value in answer.headers.items():
            self.set_header(name, value)
        async with aclosing(cast("Any", answer.chunks)) as chunks:
            try:
                async for chunk in chunks:
                    self.write(chunk)
                    await self.flush()
            except iostream.StreamClosedError:
                return  # the client has enough
            except SpaceError:
                self.detach().close()  # the only way left to say that this was not all
                return
        self.finish()

    def _answered(self, verb: asyncio.Future[Reply]) -> None:
        self._pipe.abandon()
        if not verb.cancelled():
            verb.exception()  # whoever is left to be told gets it from the future
