"""What the daemon is busy with, and since when it is not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from .handlers.route import Reply, Request, Route, Socket, SocketRoute
from .service import Spaces
from .spaces import SpaceState


class Activity:
    """Counts requests while they are served, and knows when anything last happened."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._requests = 0
        self._last = time.monotonic()

    @property
    def in_flight(self) -> int:
        """How many requests, commands and kernels there are."""
        return self._requests + self._spaces.in_flight

    @property
    def quiet_for(self) -> float:
        """Seconds since anything was last known to go on."""
        return time.monotonic() - self._last

    async def busy(self) -> bool:
        """Tell whether anything is in flight or any space runs; if so, it is quiet only from now on."""
        running = any(space.state is SpaceState.RUNNING for space in await self._spaces.list())
        if running or self.in_flight:
            self._last = time.monotonic()
        return running or self.in_flight > 0

    def counted(self, route: Route) -> Route:
        """Return the route with its requests counted."""

        async def verb(host: object, request: Request) -> Reply:
            with self._request():
                return await route.verb(host, request)

        return replace(route, verb=verb)

    def counted_socket(self, route: SocketRoute) -> SocketRoute:
        """Return the websocket with its conversations counted."""

        async def conversation(host: object, request: Request, socket: Socket) -> None:
            with self._request():
                await route.conversation(host, request, socket)

        return replace(route, conversation=conversation)

    @contextlib.contextmanager
    def _request(self) -> Iterator[None]:
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._last = time.monotonic()
