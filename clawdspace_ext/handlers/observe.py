"""What a space uses and what goes on in it.  Looking never wakes it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..errors import Broken, TimedOut
from ..link import Link
from ..spaces import Stats, check_name
from ..wire import MOUNTPOINT, Json, stats_to_json
from .route import Reply, Request, Route

#: Seconds that a space has to tell what goes on in it.
PATIENCE = 5.0
_PARTS = ("totalBytes", "usedBytes", "availBytes", "usedPercent")


class Observes(Protocol):
    """What these verbs need of a host."""

    async def stats(self, name: str) -> Stats:
        """Return what a space uses now."""

    async def observe(self, name: str) -> Link | None:
        """Return the link of a space that runs."""


async def stats(host: Observes, request: Request) -> Reply:
    """CPU, memory, processes, disks."""
    return Reply({"stats": stats_to_json(await host.stats(check_name(request.path["name"])))})


async def observability(host: Observes, request: Request) -> Reply:
    """The same, and what only the space itself knows: null unless it runs."""
    name = check_name(request.path["name"])
    used = stats_to_json(await host.stats(name))
    link = await host.observe(name)
    inside = _nothing() if link is None else _checked(await ask(link, "observe"))
    return Reply({"observability": {"stats": used} | inside})


async def ask(link: Link, op: str, args: Json | None = None) -> Any:
    """Ask an agent something, unless its space falls asleep over it."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await link.call(op, args)
    except TimeoutError:
        raise TimedOut(f"the space did not answer in {PATIENCE:g} seconds", remedy="try again") from None


def _nothing() -> Json:
    return {"workspaceDisk": None, "workspaceSizeBytes": None, "top": None, "bashHistoryTail": None}


def _checked(told: Any) -> Json:
    """Return what a space told in the shape of the API.  Raises Broken when it is not told so."""
    try:
        disk = {part: _number(told["workspaceDisk"][part]) for part in _PARTS}
        size = told["workspaceSizeBytes"]
        return {
            "workspaceDisk": {"path": MOUNTPOINT} | disk,
            "workspaceSizeBytes": None if size is None else _number(size),
            "top": [_process(entry) for entry in told["top"]],
            "bashHistoryTail": str(told["bashHistoryTail"]),
        }
    except (TypeError, KeyError, ValueError) as error:
        raise Broken("the space told of itself in a shape that is not known") from error


def _process(entry: Any) -> Json:
    numbers = {part: _number(entry[part]) for part in ("pid", "cpu", "mem")}
    return numbers | {part: str(entry[part]) for part in ("etime", "command")}


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**63:
        raise ValueError("not a number")
    return value


ROUTES = [
    Route("GET", "/api/spaces/{name}/stats", "read", stats),
    Route("GET", "/api/spaces/{name}/observability", "read", observability),
]
