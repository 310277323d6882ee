"""The frames of the link, and the bounds both ends keep.

A frame is a 10-byte header (payload length, flow, type, channel) and at most 64 KiB of payload.  HELLO, ACK, PING and
PONG belong to the transport; the others belong to flows, are counted, and are sent again until acknowledged.
"""

from __future__ import annotations

import json
import struct

MYPY = False
if MYPY:
    from typing import Any, Dict

MAGIC = b"\nclawdspace-link\n"
VERSIONS = (1, 1)

HEADER = struct.Struct(">IIBB")
COUNT = struct.Struct(">Q")
CREDIT_SIZE = struct.Struct(">I")

MAX_PAYLOAD = 64 * 1024
CHUNK = 32 * 1024 - HEADER.size
WINDOW = 256 * 1024
UNACKNOWLEDGED = 1024 * 1024
MAX_FLOWS = 4096
MAX_CONTROL = 16384
ACK_FRAMES = 32
ACK_BYTES = 128 * 1024

HELLO, ACK, PING, PONG = 1, 2, 3, 4
OPEN, DATA, MESSAGE, CREDIT, END, RESET = 16, 17, 18, 19, 20, 21


class LinkError(Exception):
    """The peer broke the protocol."""


def parse_object(payload: bytes) -> Dict[str, Any]:
    """Return the JSON object of a payload.  Raises LinkError when it is none."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise LinkError("a message is not JSON") from None
    if not isinstance(value, dict):
        raise LinkError("a message is not a JSON object")
    return value


def unpack(layout: struct.Struct, payload: bytes) -> int:
    """Return the one number of a payload.  Raises LinkError when the size is wrong."""
    if len(payload) != layout.size:
        raise LinkError("a frame has the wrong size")
    return int(layout.unpack(payload)[0])
