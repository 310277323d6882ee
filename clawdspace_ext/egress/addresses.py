"""Addresses of names, looked up in a few threads, and those of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, ip_address

from ..errors import Refused
from .policy import Address

THREADS = 4
SECONDS = 5.0

Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]]


class Resolver:
    """Asks the system's resolver, no more than THREADS questions at once, and none for longer than SECONDS."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")

    async def resolve(self, name: str) -> Sequence[Address]:
        """Return the addresses of a name, best first.  Raises Refused when there are none, or none in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS):
                found = await loop.run_in_executor(self._pool, _lookup, name)
        except TimeoutError:
            raise Refused(f"the address of {name} was not found in time", reason="timeout") from None
        except (OSError, UnicodeError):
            raise Refused(f"there is no address of {name}", reason="unreachable") from None
        return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


def _lookup(name: str) -> Found:
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)  # type: ignore[return-value]  # stream sockets only


def is_own(address: Address) -> bool:
    """Whether an address is one of this machine's: only those can be bound to."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
