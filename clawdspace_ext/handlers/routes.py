"""The route table: every method of every path, for the daemon's socket and for a Jupyter server alike."""

from __future__ import annotations

from . import exec_stream, spaces, system, volumes
from .route import Route, SocketRoute

ROUTES: list[Route] = [*system.ROUTES, *spaces.ROUTES, *volumes.ROUTES]

SOCKETS: list[SocketRoute] = [*exec_stream.ROUTES]
