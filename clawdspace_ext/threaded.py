"""A ``SpaceHost`` for an event loop, over a client that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .client import SpacesClient
from .spaces import ExecRequest, ExecResult, Space, SpaceSpec


class ThreadedHost:
    """Satisfies ``SpaceHost``: each verb of a SpacesClient in a thread."""

    def __init__(self, client: SpacesClient) -> None:
        self._client = client

    async def create(
        self, name: str, spec: SpaceSpec, *, owner: str, adopt_volume: bool = False, engine: str | None = None
    ) -> Space:
        """Make a space and start it."""
        return await asyncio.to_thread(
            self._client.create, name, spec, owner=owner, adopt_volume=adopt_volume, engine=engine
        )

    async def list(self) -> Sequence[Space]:
        """Return every space, by name."""
        return await asyncio.to_thread(self._client.list)

    async def get(self, name: str) -> Space:
        """Return one space."""
        return await asyncio.to_thread(self._client.get, name)

    async def start(self, name: str) -> Space:
        """Wake or start a space."""
        return await asyncio.to_thread(self._client.start, name)

    async def pause(self, name: str) -> Space:
        """Put a space to sleep."""
        return await asyncio.to_thread(self._client.pause, name)

    async def stop(self, name: str) -> Space:
        """End the processes of a space."""
        return await asyncio.to_thread(self._client.stop, name)

    async def destroy(self, name: str, *, remove_volume: bool = False) -> None:
        """Remove a space."""
        await asyncio.to_thread(self._client.destroy, name, remove_volume=remove_volume)

    async def exec(self, name: str, request: ExecRequest) -> ExecResult:
        """Run a command to its end."""
        return await asyncio.to_thread(self._client.exec, name, request)
