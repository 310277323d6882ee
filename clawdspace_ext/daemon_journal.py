"""What the log says of spaces: one line for each that is made, put to sleep, woken, stopped, removed, or dies."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from .errors import Broken, SpaceError, TimedOut, Unavailable
from .handlers.route import Reply, Request, Route
from .service import Spaces
from .spaces import Death, SpaceState
from .wire import quoted

log = logging.getLogger(__name__)

#: What is worth a line, as the line says it.
DEEDS = {
    ("POST", "/api/spaces"): "created",
    ("DELETE", "/api/spaces/{name}"): "destroyed",
    ("POST", "/api/spaces/{name}/start"): "started",
    ("POST", "/api/spaces/{name}/stop"): "put to sleep",
    ("POST", "/api/spaces/{name}/halt"): "stopped",
    ("DELETE", "/api/volumes/{id}"): "removed for good",
}
_ENDING = ("destroyed", "stopped")


class Journal:
    """Logs who did what to a space and how long it took, requests that failed through no fault of the client, and
    spaces that ended without being told to."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._states: dict[str, SpaceState] = {}
        self._ended: set[str] = set()

    def logged(self, route: Route) -> Route:
        """Return the route with its deeds and failures logged."""
        deed = DEEDS.get((route.method, route.path))

        async def verb(host: object, request: Request) -> Reply:
            subject = next(iter(request.path.values()), "")
            if deed in _ENDING:
                self._ended.add(subject)
            began = time.monotonic()
            try:
                reply = await route.verb(host, request)
            except (Unavailable, TimedOut, Broken) as error:
                seconds = time.monotonic() - began
                what = f"{route.method} {route.path.format(**{part: quoted(p) for part, p in request.path.items()})}"
                log.warning("%s by %s failed in %.2f s: %s", what, quoted(request.principal), seconds, error)
                raise
            if deed is not None:
                seconds = time.monotonic() - began
                log.info("%s %s by %s in %.2f s", _made(reply) or subject, deed, quoted(request.principal), seconds)
            return reply

        return replace(route, verb=verb)

    async def look(self) -> None:
        """Log the spaces that stopped since the last look though nobody stopped them."""
        states = {space.name: space.state for space in await self._spaces.list()}
        for name, state in states.items():
            if state is not SpaceState.STOPPED:
                self._ended.discard(name)
            elif self._states.get(name, state) is not state and name not in self._ended:
                log.warning("%s ended by itself: %s", name, _cause(await self._death(name)))
        self._states = states
        self._ended &= states.keys()

    async def _death(self, name: str) -> Death | None:
        try:
            return await self._spaces.death(name)
        except SpaceError:
            return None  # it is gone, or its engine is


def _made(reply: Reply) -> str | None:
    """Return the name of the space that was made."""
    if not isinstance(reply.body, dict) or not isinstance(reply.body.get("space"), dict):
        return None
    return str(reply.body["space"]["name"])


def _cause(death: Death | None) -> str:
    if death is None:
        return "why is not known"
    if death.oom:
        return "its memory limit killed it"
    return f"its main process ended with exit code {death.exit_code}"
