"""Which engines this machine has: Docker where one answers, else bubblewrap; looked for again while one is missing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SpaceError, Unavailable
from .protocols import Engine
from .service import Spaces

if TYPE_CHECKING:
    from .engines.docker import DockerEngine

log = logging.getLogger(__name__)

#: Seconds between two looks for an engine that was not there.
LOOK_AGAIN = 3.0

DEFAULT_DOCKER = "unix:///var/run/docker.sock"

#: Returns an engine that works.  Raises SpaceError when there is none.
Finder = Callable[[], Awaitable[Engine]]


def finders(install_id: str, data_dir: Path) -> Mapping[str, Finder]:
    """Return how to find each engine, the one that is preferred for new spaces first."""

    async def docker() -> Engine:
        return await connected_docker(install_id)

    async def bubblewrap() -> Engine:
        from .engines.bubblewrap import BubblewrapEngine  # noqa: PLC0415  # only where spaces can run

        engine = BubblewrapEngine(install_id, data_dir / "bubblewrap")
        await engine.capabilities()
        return engine

    return {"docker": docker, "bubblewrap": bubblewrap}


async def connected_docker(install_id: str) -> DockerEngine:
    """Return the Docker engine that the environment names.  Raises SpaceError when it does not answer within 2 s."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER
    if host.startswith("unix://") and not os.path.exists(host.removeprefix("unix://")):  # noqa: ASYNC240, PTH110
        raise Unavailable(f"no Docker engine listens at {host}", remedy="start Docker, or set DOCKER_HOST")
    from .engines.docker import DockerEngine  # noqa: PLC0415  # slow to import, and not every machine has Docker

    engine = DockerEngine(install_id, docker_host=host, default_image=default_image())
    try:
        await engine.connect()
    except SpaceError:
        await engine.close()
        raise
    return engine


def default_image() -> str:
    """Return what spaces of the Docker engine are made of when nobody says."""
    return os.environ.get("CLAWDSPACE_IMAGE") or "clawdspace:latest"


class EngineChoice:
    """Keeps ``spaces`` supplied with every engine that can be found."""

    def __init__(self, spaces: Spaces, finders: Mapping[str, Finder]) -> None:
        self._spaces = spaces
        self._missing = dict(finders)
        self._order = list(finders)
        self.reasons: dict[str, str] = {}

    async def look(self) -> None:
        """Look for each engine that is not in use yet, all at once."""
        names = list(self._missing)
        await asyncio.gather(*(self._try(name) for name in names))

    async def keep_looking(self) -> None:
        """Look again every LOOK_AGAIN seconds until nothing is missing."""
        while self._missing:
            await asyncio.sleep(LOOK_AGAIN)
            await self.look()

    async def _try(self, name: str) -> None:
        try:
            engine = await self._missing[name]()
        except SpaceError as error:
            if self.reasons.get(name) != error.message:
                log.info("no %s: %s", name, error)
            self.reasons[name] = error.message
            return
        del self._missing[name]
        self.reasons.pop(name, None)
        # Both may be found in the same look, in either order; the preferred one is the default all the same.
        await self._spaces.add_engine(engine, default=name == self._order[0])
        log.info("found %s", name)
