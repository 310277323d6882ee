"""What a space may connect to: pure decisions about names, addresses and ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self

from ..errors import InvalidRequest, Refused

Address = IPv4Address | IPv6Address

#: ssh and the web; above 1023, anything.
LOW_PORTS = (22, 80, 443)
MAX_NAME = 253

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: What some resolvers take for an IPv4 address written as one number, in octal or hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

#: Beyond what ``is_global`` knows: the 6to4 relays, and what is for protocols or documents and not for hosts.
_CLOSED_V4 = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "100.64.0.0/10")))
#: IPv6 hosts live in here …
_UNICAST_V6 = ip_network("2000::/3")
#: … but for Teredo and other protocols, 6to4, and documentation.
_CLOSED_V6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))


@dataclass(frozen=True, slots=True)
class Target:
    """What a program wants to connect to: a lower-case ASCII name, or an address.

    ``trusted`` means that whoever runs the daemon vouches for it, whatever it resolves to.
    """

    host: str
    port: int
    address: Address | None
    trusted: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Policy:
    """``allow`` are hosts that may be reached wherever they are."""

    allow: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read CLAWDSPACE_EGRESS_ALLOW, host names with commas between.  Raises InvalidRequest for what is no name."""
        names = [name for part in environ.get("CLAWDSPACE_EGRESS_ALLOW", "").split(",") if (name := part.strip())]
        try:
            return cls(frozenset(read_host(name)[0] for name in names))
        except Refused as error:
            raise InvalidRequest(
                f"CLAWDSPACE_EGRESS_ALLOW: {error.message}", remedy="write host names, with commas between"
            ) from None

    def target(self, host: str, port: int) -> Target:
        """Return what may be asked for.  Raises Refused: it can be no host, or the port is closed to spaces."""
        name, address = read_host(host)
        if not (port in LOW_PORTS or 1023 < port < 65536):
            raise Refused(f"port {port} is closed; 22, 80, 443 and those above 1023 are open", reason="denied")
        return Target(name, port, address, trusted=name in self.allow)


def read_host(host: str) -> tuple[str, Address | None]:
    """Return a host's one spelling, and its address if it is one.  Raises Refused for what can be neither."""
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    name = _ascii(text).lower().removesuffix(".")
    try:
        if "%" in name:
            raise Refused(f"{_shown(host)}: an address with a zone is of the local network", reason="denied")
        address = ip_address(name)
        return str(address), address
    except ValueError:
        labels = name.split(".")
    if len(name) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused(f"{_shown(host)} cannot name a host", reason="invalid")
    if _NUMBER.fullmatch(labels[-1]):
        raise Refused(f"{_shown(host)}: write an address as four decimal numbers", reason="denied")
    return name, None


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet: no tunnel, no multicast, nothing private or reserved."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _UNICAST_V6 and not any(address in network for network in _CLOSED_V6)


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise Refused(f"{_shown(text)} cannot name a host", reason="invalid") from None


def _shown(text: str) -> str:
    return repr(text[:80])
