"""What a route is, and what passes between HTTP and a verb.  Knows neither tornado nor Jupyter."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..errors import InvalidRequest
from ..wire import quoted

#: What somebody must be allowed to do on the resource ``clawdspace``; what is open needs no credentials.
Action = Literal["open", "read", "write", "execute"]

#: Bytes of a request's body, and of a message on a websocket.
MAX_BODY = 16 * 1024 * 1024
MAX_MESSAGE = 1024 * 1024

JSON = "application/json"
#: Bytes of a body that is passed on piece by piece.
MAX_UPLOAD = 5 * 1024**3


async def _no_body() -> AsyncIterator[bytes]:
    return
    yield b""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.  ``principal`` is who asks; ``path`` holds the parts of the URL in braces, decoded.

    Of a streamed path ``body`` is empty: ``chunks`` are its pieces as they come, ``headers`` have names in lower case.
    """

    principal: str
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: AsyncIterable[bytes] = field(default_factory=_no_body)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a ``true`` or ``false`` of the query.  Raises InvalidRequest for other words."""
        word = self.query.get(name, "").lower()
        if word in ("true", "1"):
            return True
        if word in ("false", "0"):
            return False
        if word:
            raise InvalidRequest(f"{name}={quoted(word)} is neither true nor false", field=name)
        return default


@dataclass(frozen=True, slots=True)
class Reply:
    """What a verb answers: something that JSON can say, or bytes of another ``content_type``, and an HTTP status."""

    body: object
    status: int = 200
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Download(Reply):
    """What a verb of a streamed path may answer: bytes that are sent as they come.

    ``headers`` says how many there are (Content-Length); ``chunks`` raises SpaceError when they cannot be had.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: AsyncIterator[bytes] = field(default_factory=_no_body)


class Socket(Protocol):
    """A websocket, as a conversation sees it."""

    async def receive(self) -> str | bytes | None:
        """Return the next message, or None for ever once the client is gone.

        The client can send the next one only when this one was taken, so that nothing piles up here.
        """

    async def gone(self) -> None:
        """Return once the client is gone, which a conversation that takes nothing would not notice."""

    async def send(self, message: str | bytes) -> None:
        """Send text or bytes, waiting for a slow reader.  Raises Unavailable when the client is gone."""


#: Each verb says itself which host it needs; the composition root hands in one that is all of them.
Verb = Callable[[Any, Request], Awaitable[Reply]]
Conversation = Callable[[Any, Request, Socket], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, written as in OpenAPI: ``/api/spaces/{name}``.

    ``keyed``: a request with an Idempotency-Key is done once.  ``local``: served on the daemon's socket only.
    ``streamed``: its body is not collected, up to MAX_UPLOAD; whatever else the path has takes no body.
    """

    method: str
    path: str
    action: Action
    verb: Verb
    keyed: bool = False
    local: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """A websocket; ``path``, ``action`` and ``local`` as a Route's."""

    path: str
    action: Action
    conversation: Conversation
    local: bool = False


def pattern(path: str) -> str:
    """Return the regular expression of a path; a slash at its end makes no difference."""
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "/?"


def is_streamed(methods: Mapping[str, Route]) -> bool:
    """Return whether the methods of a path get their bodies piece by piece."""
    return any(route.streamed for route in methods.values())


def methods_by_path(routes: list[Route]) -> dict[str, dict[str, Route]]:
    """Return path -> method -> route."""
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        table.setdefault(route.path, {})[route.method] = route
    return table
