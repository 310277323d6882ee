"""The machine, the engines on it, and whether anybody is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from .. import machine
from ..errors import Unavailable
from ..protocols import Capabilities, Engine
from ..spaces import Space, SpaceState
from ..version import __version__
from ..wire import capabilities_to_json
from .route import Reply, Request, Route


class HasEngines(Protocol):
    """What these verbs need of a host."""

    @property
    def engines(self) -> Sequence[Engine]:
        """The engines in use, the default first."""

    async def list(self) -> Sequence[Space]:
        """Return every space."""


async def health(_host: object, _request: Request) -> Reply:
    """Somebody is there."""
    return Reply({"status": "ok", "version": __version__})


async def system(host: HasEngines, _request: Request) -> Reply:
    """The machine, how full it is, and its engine in the words of Docker."""
    facts = await asyncio.to_thread(machine.system)
    engines = await _capabilities(host)
    docker = _docker(engines, await host.list())
    return Reply(facts | {"docker": docker, "capabilities": machine.capabilities()})


async def capabilities(host: HasEngines, _request: Request) -> Reply:
    """What a space can be given here."""
    engines = await _capabilities(host)
    memory = await asyncio.to_thread(machine.memory)
    return Reply(
        machine.capabilities()
        | {
            "cpus": machine.cpus(),
            "memory": machine.gigabytes(memory.total),
            "gpus": [],
            "engine": engines[0].engine if engines else None,
            "engines": [capabilities_to_json(engine) for engine in engines],
        }
    )


async def _capabilities(host: HasEngines) -> list[Capabilities]:
    """Return what each engine says that answers."""
    found = []
    for engine in host.engines:
        try:
            found.append(await engine.capabilities())
        except Unavailable:
            continue  # one that is away leaves the machine and its spaces no less there
    return found


def _docker(engines: Sequence[Capabilities], spaces: Sequence[Space]) -> dict[str, Any]:
    """Return Docker's version and how many containers of ours it has; without Docker, none."""
    docker = next((engine for engine in engines if engine.engine == "docker"), None)
    states = [space.state for space in spaces if space.engine == "docker"]
    images = docker.facts.get("images", "0") if docker else "0"
    return {
        "version": docker.version if docker else None,
        "containers": len(states),
        "containersRunning": states.count(SpaceState.RUNNING),
        "containersPaused": states.count(SpaceState.PAUSED),
        "images": int(images) if images.isdigit() else 0,
    }


ROUTES = [
    Route("GET", "/api/health", "open", health),
    Route("GET", "/api/system", "read", system),
    Route("GET", "/api/system/capabilities", "read", capabilities),
]
