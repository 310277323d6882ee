"""The API in a Jupyter server: who asks is checked here, what was asked is done by the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from jupyter_server.auth.decorator import allow_unauthenticated, ws_authenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import iostream, web, websocket
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders

from ..errors import Unavailable
from ..wire import KEY_HEADER, PRINCIPAL_HEADER, dumps
from .access import AccessMixin
from .errors import JsonErrors, check_upgrade
from .exchange import Exchange
from .inbox import keep_waiting
from .route import (
    MAX_BODY,
    MAX_MESSAGE,
    MAX_UPLOAD,
    Request,
    Route,
    SocketRoute,
    is_streamed,
    methods_by_path,
    pattern,
)
from .upstream import Upstream

#: Headers of a streamed request that the daemon gets, and of its answer that the client gets.
SENT_ON = {"Accept", "Range", "Content-Type"}
SENT_BACK = {
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "Content-Security-Policy",
    "Content-Type",
    "Retry-After",
    "X-Content-Type-Options",
}

#: Below these, other extensions have paths of theirs.
SHARED = {"metrics"}


def jupyter_handlers(routes: Sequence[Route], sockets: Sequence[SocketRoute]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the rows for a Jupyter server's table, a last one for each of our prefixes that refuses in JSON."""
    table = methods_by_path([route for route in routes if not route.local])
    rows: list[tuple[str, Any, dict[str, Any]]] = [
        (pattern(route.path), ForwardSocket, {"route": route}) for route in sockets if not route.local
    ]
    for path, methods in table.items():
        is_open = all(route.action == "open" for route in methods.values())
        handler = OpenHandler if is_open else ForwardStream if is_streamed(methods) else ForwardHandler
        rows.append((pattern(path), handler, {"routes": methods}))
    prefixes = sorted({path.split("/")[2] for path in table} - SHARED)
    rows += [(f"/api/{prefix}(?:/.*)?", ForwardHandler, {"routes": {}}) for prefix in prefixes]
    return rows


class OpenHandler(JsonErrors, ExtensionHandlerMixin, APIHandler):
    """A path that needs no credentials, answered here: nobody unknown makes the daemon work, or start."""

    def initialize(self, name: str, routes: Mapping[str, Route]) -> None:
        """Take what the table says of this path."""
        super().initialize(name)
        self._routes = routes
        self.allowed = routes.keys()

    @allow_unauthenticated
    async def get(self) -> None:
        """Answer."""
        reply = await self._routes["GET"].verb(None, Request(principal=""))
        self.finish(dumps(reply.body))


@web.stream_request_body
class ForwardHandler(JsonErrors, AccessMixin, APIHandler):
    """One path: sends what is allowed on to the daemon.  A body is read only of those who may ask."""

    max_body = MAX_BODY
    body_unread = True

    def initialize(self, name: str, routes: Mapping[str, Route]) -> None:
        """Take what the table says of this path."""
        super().initialize(name)
        self._routes = routes
        self._body = bytearray()
        self.allowed = routes.keys()

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own is
        """Refuse who is unknown, and what is too large."""
        await super().prepare()
        length = self.request.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self.max_body:
            raise web.HTTPError(413, f"the body is larger than {self.max_body} bytes")
        if isinstance(self.request.connection, HTTP1Connection):
            self.request.connection.set_max_body_size(self.max_body)  # for a body that does not say how long it is

    def data_received(self, chunk: bytes) -> None:
        """Collect the body."""
        self._body += chunk

    async def _allowed(self) -> Route:
        """Return the route of the method.  Raises HTTPError when there is none, or the user may not use it."""
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise web.HTTPError(405) if self._routes else web.HTTPError(404, "there is no such path")
        await self.demand(route.action)
        return route

    async def _forward(self, **path: str) -> None:
        self.body_unread = False
        route = await self._allowed()
        upstream: Upstream = self.settings["clawdspace_upstream"]
        target = _target(route.path, path, self)
        answer = await upstream.fetch(route.method, target, _headers(self), bytes(self._body))
        self.set_status(answer.code)
        if "Retry-After" in answer.headers:
            self.set_header("Retry-After", answer.headers["Retry-After"])
        self.finish(answer.body, set_content_type=answer.headers.get("Content-Type", "application/json"))

    get = post = put = patch = delete = web.authenticated(_forward)


class ForwardStream(ForwardHandler):
    """One path whose bodies and answers are passed on piece by piece, each side waiting for the other."""

    max_body = MAX_UPLOAD
    _exchange: Exchange | None = None

    async def prepare(self) -> None:  # type: ignore[override]  # as ForwardHandler's
        """Ask the daemon; the body follows."""
        await super().prepare()
        if self.request.method != "OPTIONS":
            route = await self._allowed()
            upstream: Upstream = self.settings["clawdspace_upstream"]
            headers = _headers(self)
            for name in SENT_ON & self.request.headers.keys():
                headers[name] = self.request.headers[name]
            if route.streamed and "Content-Length" in self.request.headers:
                headers["Content-Length"] = self.request.headers["Content-Length"]
            self._uploads = route.streamed
            target = _target(route.path, self.path_kwargs, self)
            self._exchange = Exchange(await upstream.dial())
            await self._exchange.begin(route.method, target, headers)

    async def data_received(self, chunk: bytes) -> None:  # type: ignore[override]  # it may wait
        """Pass a piece of the body on."""
        if self._exchange is not None and self._uploads:  # what has no body there could be taken for another request
            await self._exchange.write(chunk)

    def on_connection_close(self) -> None:
        """The client is gone: what it sent is not all."""
        super().on_connection_close()
        self.on_finish()

    def on_finish(self) -> None:
        """Hang up on the daemon."""
        if self._exchange is not None:
            self._exchange.close()

    async def _carry(self, **_path: str) -> None:
        assert self._exchange is not None, "prepare has refused whatever does not get this far"
        self.body_unread = False
        self._exchange.finish()
        code, headers = await self._exchange.head()
        self.set_status(code)
        for name in SENT_BACK & headers.keys():
            self.set_header(name, headers[name])
        try:
            async for chunk in self._exchange.answer:
                self.write(chunk)
                await self.flush()
        except iostream.StreamClosedError:
            return  # the client has enough
        except Unavailable:
            self.detach().close()  # the only way left to say that this was not all
            return
        self.finish(set_content_type=headers.get("Content-Type", "application/json"))

    get = post = put = patch = delete = web.authenticated(_carry)


class ForwardSocket(JsonErrors, AccessMixin, WebSocketMixin, websocket.WebSocketHandler, JupyterHandler):
    """One websocket: joined to the daemon's, message by message, each side waiting for the other."""

    upstream: websocket.WebSocketClientConnection | None = None

    def initialize(self, name: str, route: SocketRoute) -> None:
        """Take what the table says of this path."""
        super().initialize(name)
        self._route = route

    @property
    def max_message_size(self) -> int:
        """Bytes of the longest message a client may send."""
        return MAX_MESSAGE

    @ws_authenticated
    async def get(self, **path: str) -> None:
        """Upgrade, once the daemon has."""
        check_upgrade(self)
        await self.demand(self._route.action)
        upstream: Upstream = self.settings["clawdspace_upstream"]
        self.upstream = await upstream.connect(_target(self._route.path, path, self), _headers(self))
        try:
            await super().get(**path)  # returns when the websocket is closed, or was refused
        finally:
            self.on_close()

    def open(self, **path: str) -> None:
        """Start carrying what the daemon says."""
        super().open(**path)
        self.set_nodelay(True)
        self._carrier = asyncio.create_task(self._carry())

    async def on_message(self, message: str | bytes) -> None:
        """Carry what the client says; the next message is read when this one is on its way."""
        try:
            await keep_waiting(self, self._pass_on(message))
        except (websocket.WebSocketClosedError, iostream.StreamClosedError):
            self.close()

    def on_close(self) -> None:
        """Take the daemon's side down too."""
        if self.upstream is not None and self.upstream.protocol is not None:
            if self.upstream.protocol.stream is not None:
                # At once: a close frame would have to wait behind stdin that the command does not read.
                self.upstream.protocol.stream.close()
            self.upstream.close()

    async def _pass_on(self, message: str | bytes) -> None:
        if self.upstream is not None:
            await self.upstream.write_message(message, binary=isinstance(message, bytes))

    async def _carry(self) -> None:
        assert self.upstream is not None
        try:
            while (message := await self.upstream.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
        except (websocket.WebSocketClosedError, iostream.StreamClosedError):
            pass  # the client is gone
        self.close(self.upstream.close_code, self.upstream.close_reason)


def _target(path: str, parts: Mapping[str, str], handler: web.RequestHandler) -> str:
    """Return the daemon's URL for this request; credentials in the query stay here."""
    target = path.format(**{name: quote(part, safe="") for name, part in parts.items()})
    query = [
        (name, value) for name, values in handler.request.query_arguments.items() if name != "token" for value in values
    ]
    return f"{target}?{urlencode(query)}" if query else target


def _headers(handler: AccessMixin) -> HTTPHeaders:
    """Return what the daemon is told.  Nothing else of the client's headers gets there."""
    headers = HTTPHeaders({PRINCIPAL_HEADER: quote(handler.principal, safe="")})
    if KEY_HEADER in handler.request.headers:
        headers[KEY_HEADER] = handler.request.headers[KEY_HEADER]
    return headers
