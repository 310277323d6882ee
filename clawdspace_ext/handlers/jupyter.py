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

from ..wire import KEY_HEADER, PRINCIPAL_HEADER, dumps
from .access import AccessMixin
from .errors import JsonErrors, check_upgrade
from .inbox import keep_waiting
from .route import MAX_BODY, MAX_MESSAGE, Request, Route, SocketRoute, methods_by_path, pattern
from .upstream import Upstream


def jupyter_handlers(routes: Sequence[Route], sockets: Sequence[SocketRoute]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the rows for a Jupyter server's table, a last one for each of our prefixes that refuses in JSON."""
    table = methods_by_path([route for route in routes if not route.local])
    rows: list[tuple[str, Any, dict[str, Any]]] = [
        (pattern(route.path), ForwardSocket, {"route": route}) for route in sockets if not route.local
    ]
    for path, methods in table.items():
        is_open = all(route.action == "open" for route in methods.values())
        rows.append((pattern(path), OpenHandler if is_open else ForwardHandler, {"routes": methods}))
    prefixes = sorted({path.split("/")[2] for path in table})
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
        if length.isdecimal() and int(length) > MAX_BODY:
            raise web.HTTPError(413, f"the body is larger than {MAX_BODY} bytes")
        if isinstance(self.request.connection, HTTP1Connection):
            self.request.connection.set_max_body_size(MAX_BODY)  # for a body that does not say how long it is

    def data_received(self, chunk: bytes) -> None:
        """Collect the body."""
        self._body += chunk

    async def _forward(self, **path: str) -> None:
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise web.HTTPError(405) if self._routes else web.HTTPError(404, "there is no such path")
        await self.demand(route.action)
        upstream: Upstream = self.settings["clawdspace_upstream"]
        target = _target(route.path, path, self)
        answer = await upstream.fetch(route.method, target, _headers(self), bytes(self._body))
        self.set_status(answer.code)
        if "Retry-After" in answer.headers:
            self.set_header("Retry-After", answer.headers["Retry-After"])
        self.finish(answer.body, set_content_type=answer.headers.get("Content-Type", "application/json"))

    get = post = put = patch = delete = web.authenticated(_forward)


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
