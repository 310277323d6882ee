"""The route table: every method of every path, for the daemon's socket and for a Jupyter server alike."""

from __future__ import annotations

from . import exec_stream, kernels, spaces, system, volumes
from .route import Route, SocketRoute

#: What ``service.Spaces`` is asked.
ROUTES: list[Route] = [*system.ROUTES, *spaces.ROUTES, *volumes.ROUTES]

#: What a Jupyter server sends on to the daemon: all of that, and what ``relay.Kernels`` is asked there.
FORWARDED: list[Route] = [route for route in (*ROUTES, *kernels.ROUTES) if not route.local]

SOCKETS: list[SocketRoute] = [*exec_stream.ROUTES]
