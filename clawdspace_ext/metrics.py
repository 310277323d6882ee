"""What a Prometheus server may collect of a daemon.  No name of a space, a user or a command is among it."""

from __future__ import annotations

import time
from collections import Counter as Counted
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .errors import SpaceError
from .handlers.route import Reply, Request, Route, Socket, SocketRoute
from .service import Spaces
from .spaces import Space
from .version import __version__

#: Seconds: from a command that is over at once to one that takes a night.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600, 3600)

_EXEC = "/api/spaces/{name}/exec"


class Metrics:
    """Counts what routes do and tells it, with what there is now, in Prometheus' text format."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._execs = Counter("clawdspace_execs", "Commands asked for.", ["how"], registry=self._registry)
        self._seconds = Histogram(
            "clawdspace_exec_seconds",
            "Time from request to exit code of commands run to their end.",
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._failures = Counter(
            "clawdspace_failures", "Requests that failed, by the code told.", ["code"], registry=self._registry
        )

    def measured(self, route: Route) -> Route:
        """Return the route with its failures, and if it runs commands with these, counted."""
        runs = (route.method, route.path) == ("POST", _EXEC)

        async def verb(host: object, request: Request) -> Reply:
            began = time.perf_counter()
            try:
                reply = await route.verb(host, request)
            except SpaceError as error:
                self._failures.labels(error.code).inc()
                raise
            if runs:
                self._execs.labels("whole").inc()
                self._seconds.observe(time.perf_counter() - began)
            return reply

        return replace(route, verb=verb)

    def measured_socket(self, route: SocketRoute) -> SocketRoute:
        """Return the websocket, if it runs commands, with these counted."""
        if not route.path.startswith(f"{_EXEC}/"):
            return route

        async def conversation(host: object, request: Request, socket: Socket) -> None:
            self._execs.labels("streamed").inc()
            await route.conversation(host, request, socket)

        return replace(route, conversation=conversation)

    async def exposition(self) -> bytes:
        """Return everything, as text."""
        now = _Now(await self._spaces.list(), self._spaces.reconnects, self._spaces.in_flight)
        self._registry.register(now)
        try:
            return generate_latest(self._registry)
        finally:
            self._registry.unregister(now)


class _Now(Collector):
    """What there is at one moment."""

    def __init__(self, spaces: Sequence[Space], reconnects: int, flows: int) -> None:
        self._spaces = spaces
        self._reconnects = reconnects
        self._flows = flows

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield CounterMetricFamily(
            "clawdspace_link_reconnects", "Links to spaces that broke and were made again.", self._reconnects
        )
        yield GaugeMetricFamily("clawdspace_flows", "Commands, transfers and kernels under way.", self._flows)
        version = GaugeMetricFamily("clawdspace_daemon_info", "The daemon.", labels=["version"])
        version.add_metric([__version__], 1)
        yield version
        spaces = GaugeMetricFamily("clawdspace_spaces", "Spaces.", labels=["state", "engine"])
        for (state, engine), count in sorted(Counted(self._kinds()).items()):
            spaces.add_metric([state, engine], count)
        yield spaces

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what is asked for is not known in advance."""
        return ()

    def _kinds(self) -> Iterator[tuple[str, str]]:
        for space in self._spaces:
            yield space.state.value, space.engine
