"""Counters and gauges for a Prometheus server."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Protocol

from .route import Reply, Request, Route

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class HasMetrics(Protocol):
    """What the verb needs."""

    async def exposition(self) -> bytes:
        """Return everything, in Prometheus' text format."""


async def metrics(source: HasMetrics, _request: Request) -> Reply:
    """What there is and what was done, as numbers."""
    return Reply(await source.exposition(), content_type=TEXT)


ROUTES = [Route("GET", "/api/metrics", "read", metrics)]


def routes_of(source: HasMetrics) -> list[Route]:
    """Return the routes with ``source`` as their host, whatever the host of the server is."""
    return [replace(route, verb=partial(_asked_of, source, route)) for route in ROUTES]


async def _asked_of(source: HasMetrics, route: Route, _host: object, request: Request) -> Reply:
    return await route.verb(source, request)
