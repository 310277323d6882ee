"""The route table: every method of every path, for the daemon's socket and for a Jupyter server alike."""

from __future__ import annotations

from . import commands, exec_stream, files, kernels, metrics, observe, spaces, system, terminal, volumes
from .route import Route, SocketRoute

#: What ``service.Spaces`` is asked.
ROUTES: list[Route] = [
    *system.ROUTES,
    *spaces.ROUTES,
    *observe.ROUTES,
    *files.ROUTES,
    *commands.ROUTES,
    *volumes.ROUTES,
]

#: What a Jupyter server sends on to the daemon: all of that, and what is asked of ``relay.Kernels`` and
#: of the daemon's metrics there.
FORWARDED: list[Route] = [route for route in (*ROUTES, *kernels.ROUTES, *metrics.ROUTES) if not route.local]

SOCKETS: list[SocketRoute] = [*exec_stream.ROUTES, *terminal.ROUTES]
