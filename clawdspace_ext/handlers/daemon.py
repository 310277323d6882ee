"""The daemon itself: what it is doing, and how to end it.  On its own socket only."""

from __future__ import annotations

from typing import Protocol

from ..errors import Conflict
from .route import Reply, Request, Route


class Running(Protocol):
    """What these verbs need of a daemon."""

    @property
    def in_flight(self) -> int:
        """How many requests, commands and kernels there are."""

    def facts(self) -> dict[str, object]:
        """Return what ``GET /api/daemon`` says."""

    def leave(self) -> None:
        """Make the daemon end as soon as this answer is out."""


def daemon_routes(daemon: Running) -> list[Route]:
    """Return the routes about this daemon."""

    async def status(_host: object, _request: Request) -> Reply:
        return Reply(daemon.facts())

    async def stop(_host: object, request: Request) -> Reply:
        if request.flag("onlyIdle") and daemon.in_flight:
            raise Conflict(
                f"the daemon has {daemon.in_flight} requests, commands or kernels in flight",
                remedy="wait for them, or stop it with 'clawdspace daemon stop'",
            )
        daemon.leave()
        return Reply({"message": "Daemon stopping"})

    return [
        Route("GET", "/api/daemon", "read", status, local=True),
        Route("POST", "/api/daemon/stop", "write", stop, local=True),
    ]
