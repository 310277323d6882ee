"""The API on the daemon's socket, whose file mode lets in its user alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tornado import iostream, web, websocket
from tornado.httpserver import HTTPServer

from ..errors import Broken, SpaceError, Unavailable
from ..wire import KEY_HEADER, dumps, error_to_json
from .errors import JsonErrors, check_upgrade, status_of
from .idempotency import Answer, FirstAnswers
from .inbox import Inbox, keep_waiting
from .local_stream import LocalStream
from .requesting import request_of
from .route import (
    MAX_BODY,
    MAX_MESSAGE,
    Reply,
    Request,
    Route,
    SocketRoute,
    is_streamed,
    methods_by_path,
    pattern,
)
from .routes import ROUTES, SOCKETS


def local_server(host: Any, routes: Sequence[Route] = ROUTES, sockets: Sequence[SocketRoute] = SOCKETS) -> HTTPServer:
    """Return an HTTP server of the API, yet to be given a socket.

    ``host`` is what every verb of the routes asks of one, ``service.Spaces`` for those of this package.
    """
    table = methods_by_path(list(routes))
    answers = FirstAnswers()
    rows: list[Any] = [(pattern(route.path), LocalSocket, {"host": host, "route": route}) for route in sockets]
    for path, methods in table.items():
        if is_streamed(methods):
            rows.append((pattern(path), LocalStream, {"host": host, "routes": methods}))
        else:
            rows.append((pattern(path), LocalHandler, {"host": host, "routes": methods, "answers": answers}))
    app = web.Application(
        rows, default_handler_class=UnknownHandler, websocket_max_message_size=MAX_MESSAGE, log_function=_log
    )
    return HTTPServer(app, max_body_size=MAX_BODY)


class UnknownHandler(JsonErrors):
    """Every path that is in no route."""

    def prepare(self) -> None:
        """Refuse."""
        raise web.HTTPError(404, "there is no such path")


class LocalHandler(JsonErrors):
    """One path: finds the verb of the method and runs it."""

    def initialize(self, host: Any, routes: Mapping[str, Route], answers: FirstAnswers) -> None:
        """Take what the table says of this path."""
        self._host = host
        self._routes = routes
        self._answers = answers
        self.allowed = routes.keys()

    async def _serve(self, **path: str) -> None:
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise web.HTTPError(405)
        answer = await self._answer(route, request_of(self.request, path))
        self.set_status(answer.status)
        self.set_header("Content-Type", answer.content_type)
        self.finish(answer.body)

    get = post = put = patch = delete = _serve

    async def _answer(self, route: Route, request: Request) -> Answer:
        key = self.request.headers.get(KEY_HEADER) if route.keyed else None
        run = partial(_run, route, self._host, request)
        if key is None:
            return await run(failures=False)
        same = ((self.request.method or "").encode(), self.request.uri.encode(), request.body)
        return await self._answers.once(request.principal, key, same, partial(run, failures=True))


async def _run(route: Route, host: Any, request: Request, *, failures: bool) -> Answer:
    """Return what the verb answers, and with ``failures`` what it raises, as bytes."""
    try:
        reply = await route.verb(host, request)
    except SpaceError as error:
        if not failures or isinstance(error, Broken):
            raise
        reply = Reply(error_to_json(error), status_of(error))
    body = reply.body if isinstance(reply.body, bytes) else dumps(reply.body)
    return Answer(reply.status, body, reply.content_type)


class LocalSocket(JsonErrors, websocket.WebSocketHandler):
    """One websocket; it is the ``Socket`` of its conversation."""

    def initialize(self, host: Any, route: SocketRoute) -> None:
        """Take what the table says of this path."""
        self._host = host
        self._route = route
        self._inbox = Inbox()

    async def get(self, **path: str) -> None:
        """Upgrade."""
        check_upgrade(self)
        await super().get(**path)

    def open(self, **path: str) -> None:
        """Start the conversation."""
        self._conversation = asyncio.create_task(self._converse(request_of(self.request, path)))

    async def on_message(self, message: str | bytes) -> None:
        """Hand a message over; the next one is read when it was taken."""
        await keep_waiting(self, self._inbox.put(message))

    def on_close(self) -> None:
        """Tell the conversation."""
        self._inbox.close()

    async def receive(self) -> str | bytes | None:
        """Return the next message, or None once the client is gone."""
        return await self._inbox.get()

    async def gone(self) -> None:
        """Return once the client is gone."""
        await self._inbox.closed()

    async def send(self, message: str | bytes) -> None:
        """Send a message, waiting for a slow reader."""
        try:
            await self.write_message(message, binary=isinstance(message, bytes))
        except (websocket.WebSocketClosedError, iostream.StreamClosedError):
            raise Unavailable("the client is gone") from None

    async def _converse(self, request: Request) -> None:
        try:
            await self._route.conversation(self._host, request, self)
        except SpaceError as error:
            await self._fail(error)
        finally:
            self._inbox.close()
            self.close()

    async def _fail(self, error: SpaceError) -> None:
        try:
            await self.send(dumps({"type": "error"} | error_to_json(error)).decode())
        except Unavailable:
            pass  # nobody is left to be told


def _log(_handler: web.RequestHandler) -> None:
    """Leave requests out of the log; what goes wrong is logged where it goes wrong."""
