"""How a transport begins: each side says which session it belongs to and which versions of the link it speaks."""

from __future__ import annotations

import json

from .protocol import HEADER, HELLO, MAGIC, MAX_PAYLOAD, VERSIONS, LinkError, parse_object

MYPY = False
if MYPY:
    from typing import Any, Dict, Optional, Tuple


def hello_frame(fields: Dict[str, Any]) -> bytes:
    """Return the bytes that begin a transport: the magic, and a HELLO with ``fields``."""
    payload = json.dumps(dict(fields, versions=list(VERSIONS))).encode()
    return MAGIC + HEADER.pack(len(payload), 0, HELLO, 0) + payload


def read_hello(data: bytes) -> Optional[Tuple[Dict[str, Any], bytes]]:
    """Return (fields, remaining bytes) once ``data`` holds a whole hello, None before.

    Raises LinkError when what came is no hello; the message quotes it, since an engine reports its failures there.
    """
    head = data[: len(MAGIC)]
    if not MAGIC.startswith(head):
        raise LinkError("instead of an agent, something said: %r" % data[:300].decode("utf-8", "replace"))
    start = len(MAGIC) + HEADER.size
    if len(data) < start:
        return None
    length, _, kind, _ = HEADER.unpack_from(data, len(MAGIC))
    if kind != HELLO or length > MAX_PAYLOAD:
        raise LinkError("the first frame is no hello")
    if len(data) < start + length:
        return None
    return parse_object(data[start : start + length]), data[start + length :]


def common_version(fields: Dict[str, Any]) -> Optional[int]:
    """Return the newest protocol version that both sides speak, or None."""
    versions = fields.get("versions")
    if not (isinstance(versions, list) and len(versions) == 2 and all(isinstance(v, int) for v in versions)):
        raise LinkError("a hello without a range of versions")
    newest = min(VERSIONS[1], versions[1])
    return newest if newest >= max(VERSIONS[0], versions[0]) else None
