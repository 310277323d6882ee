"""Connections to what a space may reach: checked by the address that is connected to, not by the name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from ..errors import Refused
from .addresses import Resolver, is_own
from .policy import Address, Policy, Target, is_public
from .upstream import Upstream, connect_through

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

#: Seconds that one address, and all of a name together, may take to answer.
ADDRESS_SECONDS = 5.0
SECONDS = 20.0
MAX_ADDRESSES = 6
BUFFER = 64 * 1024


class Dialer:
    """Connects to public addresses, or has the machine's own proxy do it."""

    def __init__(self, policy: Policy, upstream: Upstream, resolver: Resolver) -> None:
        self._policy = policy
        self._upstream = upstream
        self._resolver = resolver

    async def connect(self, host: str, port: int) -> Connection:
        """Return a connection.  Raises Refused: ``denied``, ``invalid``, ``unreachable`` or ``timeout``."""
        target = self._policy.target(host, port)
        proxy = self._upstream.proxy_for(target)
        try:
            async with asyncio.timeout(SECONDS):
                if proxy is None:
                    return await self._direct(target)
                await self._check_before_proxy(target)
                return await connect_through(proxy, target)
        except TimeoutError:
            raise Refused(f"{target} does not answer", reason="timeout") from None
        except OSError as error:
            raise Refused(f"{target} cannot be reached: {error.strerror or error}", reason="unreachable") from None

    async def _direct(self, target: Target) -> Connection:
        addresses = await self._addresses(target)
        if not target.trusted:
            addresses = _public(target, addresses)
        failure: OSError = TimeoutError("no answer")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(ADDRESS_SECONDS):
                    return await asyncio.open_connection(str(address), target.port, limit=BUFFER)
            except OSError as error:
                failure = error
        raise failure

    async def _check_before_proxy(self, target: Target) -> None:
        """Refuse what this machine knows to be inside; what it does not know, the proxy may."""
        if target.trusted:
            return
        found: Sequence[Address] = []
        with contextlib.suppress(Refused):
            found = await self._addresses(target)
        if any(_closed(address) for address in found):
            raise _denied(target)

    async def _addresses(self, target: Target) -> Sequence[Address]:
        return [target.address] if target.address is not None else await self._resolver.resolve(target.host)


def _public(target: Target, addresses: Sequence[Address]) -> Sequence[Address]:
    allowed = [address for address in addresses if not _closed(address)]
    if not allowed:
        raise _denied(target)
    return allowed


def _closed(address: Address) -> bool:
    return not is_public(address) or is_own(address)


def _denied(target: Target) -> Refused:
    return Refused(f"{target} is not on the public internet", reason="denied")
