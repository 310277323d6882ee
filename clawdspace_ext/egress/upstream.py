"""The proxy that the machine itself sits behind, if it does."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import InvalidRequest, Refused
from .policy import Target

MAX_ANSWER = 16 * 1024


@dataclass(frozen=True, slots=True)
class Upstream:
    """Proxies by scheme (``http``, ``https``), and the names that are reached without one."""

    proxies: Mapping[str, SplitResult] = field(default_factory=dict)
    direct: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read HTTPS_PROXY, HTTP_PROXY and NO_PROXY in either case.  Raises InvalidRequest for what is no proxy."""
        proxies = {}
        for scheme in ("http", "https"):
            name = f"{scheme}_proxy"
            text = environ.get(name) or environ.get(name.upper())
            if text:
                proxies[scheme] = _read_proxy(name.upper(), text)
        exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        return cls(proxies, frozenset(part.strip().lower().lstrip("*.") for part in exempt.split(",") if part.strip()))

    def proxy_for(self, target: Target) -> SplitResult | None:
        """Return the proxy to go through, if there is one."""
        labels = target.host.split(".")
        if "" in self.direct or any(".".join(labels[start:]) in self.direct for start in range(len(labels))):
            return None
        schemes = ("http", "https") if target.port == 80 else ("https", "http")
        return next((self.proxies[scheme] for scheme in schemes if scheme in self.proxies), None)


async def connect_through(proxy: SplitResult, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Have a proxy connect to ``target``.  Raises Refused when it will not, OSError when it cannot be reached."""
    secure = ssl.create_default_context() if proxy.scheme == "https" else None
    reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port, ssl=secure, limit=MAX_ANSWER)
    try:
        writer.write(_request(proxy, target))
        await _accepted(reader)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def _accepted(reader: asyncio.StreamReader) -> None:
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise Refused("the machine's own proxy gave no HTTP answer", reason="unreachable") from None
    words = answer.partition(b"\r\n")[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].startswith(b"2"):
        said = b" ".join(words[1:]).decode("latin-1")[:200]
        raise Refused(f"the machine's own proxy refuses: {said}", reason="unreachable")


def _request(proxy: SplitResult, target: Target) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _read_proxy(name: str, text: str) -> SplitResult:
    """Return a proxy's URL with its port.  What is wrong is named without the URL, which may hold a password."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        url, port = SplitResult("", "", "", "", ""), 0
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidRequest(f"{name} names no HTTP proxy", remedy="write http://host:port")
    login, at, _ = url.netloc.rpartition("@")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return url._replace(netloc=f"{login}{at}{host}:{port}")
