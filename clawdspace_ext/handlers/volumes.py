"""The files of destroyed spaces, kept until somebody adopts or removes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from ..errors import NotFound
from ..spaces import KeptVolume
from ..wire import kept_to_json, quoted
from .route import Reply, Request, Route


class KeepsVolumes(Protocol):
    """What these verbs need of a host."""

    async def kept(self) -> Sequence[KeptVolume]:
        """Return the files that outlived their space."""

    async def remove_kept(self, volume_id: str, /) -> None:
        """Remove kept files.  Raises NotFound."""


async def list_volumes(host: KeepsVolumes, _request: Request) -> Reply:
    """The kept files."""
    return Reply({"volumes": [kept_to_json(volume) for volume in await host.kept()]})


async def remove(host: KeepsVolumes, request: Request) -> Reply:
    """Gone for good."""
    volume_id = request.path["id"]
    if not re.fullmatch("[0-9a-f]{12}", volume_id):
        raise NotFound(f"there are no kept files {quoted(volume_id)}", remedy="GET /api/volumes lists them")
    await host.remove_kept(volume_id)
    return Reply({"message": "Volume removed"})


ROUTES = [
    Route("GET", "/api/volumes", "read", list_volumes),
    Route("DELETE", "/api/volumes/{id}", "write", remove),
]
