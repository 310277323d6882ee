"""The gateway of all spaces, and the outlet of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..errors import Refused, SpaceError
from ..flow import Flow
from ..link import Link
from . import authorities
from .addresses import Resolver
from .carry import Carried, carry
from .dialer import Dialer
from .environment import CA_PATH, PORT, program_environment
from .policy import Policy
from .upstream import Upstream

log = logging.getLogger(__name__)

MAX_DENIED = 100
#: Connections that may be in the making for one space at the same time.
MAX_DIALS = 16


@dataclass(frozen=True, slots=True)
class Denied:
    """Something a space wanted to connect to and may not; ``when`` in seconds since the epoch."""

    when: float
    target: str
    reason: str


class Gateway:
    """Connects spaces to the internet.  ``ca`` is what they shall trust, if the machine has authorities of its own."""

    def __init__(self, policy: Policy, upstream: Upstream, ca: bytes | None = None) -> None:
        self._policy = policy
        self._upstream = upstream
        self._ca = ca
        self.environment: Mapping[str, str] = program_environment(own_ca=ca is not None)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read how this machine itself reaches the internet.  Raises InvalidRequest for settings that make no sense."""
        ca = authorities.bundle(environ)
        return cls(Policy.from_environment(environ), Upstream.from_environment(environ), ca)

    def outlet(self, name: str) -> Outlet:
        """Return the way out of one space; ``name`` is for logs.

        Each has threads of its own for names, so that a space whose names are slow holds up no other.
        """
        return Outlet(name, Dialer(self._policy, self._upstream, Resolver()))

    async def open(self, link: Link) -> None:
        """Have the agent listen for programs; a space that cannot is a space without a network."""
        try:
            await link.call("egress.open", {"port": PORT})
            if self._ca is not None:
                await _place(link, CA_PATH, self._ca)
        except SpaceError as error:
            log.warning("a space stays without a network: %s", error)


class Outlet:
    """The way out of one space.  It counts bytes, and remembers the last MAX_DENIED attempts that were denied."""

    def __init__(self, name: str, dialer: Dialer) -> None:
        self.denied: deque[Denied] = deque(maxlen=MAX_DENIED)
        self.carried = Carried()
        self._name = name
        self._dialer = dialer
        self._dials = asyncio.Semaphore(MAX_DIALS)

    async def serve(self, kind: str, args: Mapping[str, Any], flow: Flow) -> None:
        """Carry one connection of a program, from the agent's flow to the internet, to its end."""
        try:
            host, port = _target(kind, args)
            async with self._dials:
                reader, writer = await self._dialer.connect(host, port)
        except Refused as error:
            if error.reason == "denied":
                self._remember(f"{args.get('host')}:{args.get('port')}"[:300], error.message)
            flow.reset(error.reason or "failed", error.message)
            return
        flow.send({"connected": True})
        await carry(flow, reader, writer, self.carried)

    def _remember(self, target: str, reason: str) -> None:
        if all(entry.target != target for entry in self.denied):
            log.info("%s may not reach %r: %s", self._name, target, reason)
        self.denied.append(Denied(time.time(), target, reason))


def _target(kind: str, args: Mapping[str, Any]) -> tuple[str, int]:
    """Return host and port of a flow that the agent opened, which may be anything.  Raises Refused."""
    host, port = args.get("host"), args.get("port")
    if kind != "egress":
        raise Refused(f"flows of kind {kind[:40]!r} are not taken", reason="unsupported")
    if not isinstance(host, str) or len(host) > 1024 or type(port) is not int:
        raise Refused("name a host and a port", reason="invalid")
    return host, port


async def _place(link: Link, path: str, content: bytes) -> None:
    """Write a file in the space."""
    flow = await link.open("write", {"path": path, "parents": True, "mode": 0o444})
    await flow.write(content)
    flow.end()
    while await flow.read() is not None:
        pass
