"""The head of a request to a proxy: where it goes, and what is sent on."""

from __future__ import annotations

MYPY = False
if MYPY:
    from typing import List, Tuple

MAX_HEAD = 32 * 1024
_MAX_HOST = 512

#: Headers that concern one connection only.  A body passes as it is, so what frames it stays.
_HOP_BY_HOP = {b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade", b"host"}


class BadRequest(Exception):
    """What came is no request a proxy can serve."""


class Request:
    """``forward`` is the head for an HTTP server, or nothing for a mere tunnel."""

    __slots__ = ("forward", "host", "port")

    def __init__(self, host: str, port: int, forward: bytes) -> None:
        self.host = host
        self.port = port
        self.forward = forward


def parse(head: bytes) -> Request:
    """Read a head without its final blank line.  Raises BadRequest."""
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ")
    stray = any(c in line for line in lines for c in (b"\0", b"\r", b"\n"))
    if stray or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        raise BadRequest("this is an HTTP/1.1 proxy, and that was no HTTP/1.1 request")
    method, target, _ = words
    if method == b"CONNECT":
        host, port = _host_and_port(target, b"")
        return Request(host, port, b"")
    if target[:7].lower() != b"http://":
        raise BadRequest("this is a proxy: send CONNECT host:port, or a request for a whole http:// address")
    authority, path = _split(target[7:])
    host, port = _host_and_port(authority, b"80")
    first = b" ".join((method, path, b"HTTP/1.1"))
    kept = [first, b"Host: " + authority, *_kept(lines[1:]), b"Connection: close"]
    return Request(host, port, b"\r\n".join(kept) + b"\r\n\r\n")


def _split(rest: bytes) -> Tuple[bytes, bytes]:
    """Return authority and path of an address without its scheme."""
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    cut = min(ends) if ends else len(rest)
    path = rest[cut:]
    return rest[:cut], path if path.startswith(b"/") else b"/" + path


def _host_and_port(authority: bytes, default: bytes) -> Tuple[str, int]:
    host, colon, port = authority.rpartition(b":")
    if not colon or port.endswith(b"]"):
        host, port = authority, b""
    port = port or default
    if b"@" in host or not host or len(host) > _MAX_HOST:
        raise BadRequest("name a host and a port, and no user")
    if not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise BadRequest("a port is a number from 1 to 65535")
    try:
        return host.decode(), int(port)
    except UnicodeDecodeError:
        raise BadRequest("the host name is not UTF-8") from None


def _kept(lines: List[bytes]) -> List[bytes]:
    """Return the header lines that are meant for the server."""
    fields = []
    dropped = set(_HOP_BY_HOP)
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise BadRequest("a header makes no sense")
        fields.append((name.lower(), line))
        if name.lower() == b"connection":
            dropped.update(token.strip().lower() for token in value.split(b","))
    dropped -= {b"content-length", b"transfer-encoding"}
    return [line for name, line in fields if name not in dropped]
