"""Jupyter's messages on the wire: taken apart, checked, signed again.

A message is ``[*identities, <IDS|MSG>, signature, header, parent header, metadata, content, *buffers]``.  Only the
header is ever read; what a message says is passed on byte for byte.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

DELIMITER = b"<IDS|MSG>"
MAX_IDENTITIES = 16
MAX_HEADER = 64 * 1024
PROTOCOL_VERSION = "5.4"


class Malformed(Exception):
    """These parts are no Jupyter message."""


class Signer:
    """Signs with one key, as ``hmac-sha256`` does."""

    def __init__(self, key: bytes) -> None:
        self._start = hmac.new(key, digestmod="sha256")

    def sign(self, dicts: Sequence[bytes]) -> bytes:
        """Return the signature of a message's four dictionaries."""
        digest = self._start.copy()
        for part in dicts:
            digest.update(part)
        return digest.hexdigest().encode()


@dataclass(slots=True)
class Message:
    """A message whose parts are in their places; ``dicts`` are header, parent header, metadata and content."""

    identities: list[bytes]
    signature: bytes
    dicts: list[bytes]
    buffers: list[bytes]

    @classmethod
    def parse(cls, parts: list[bytes]) -> Message:
        """Find the places.  Raises Malformed."""
        try:
            start = parts.index(DELIMITER)
        except ValueError:
            raise Malformed("no delimiter") from None
        if start > MAX_IDENTITIES or len(parts) < start + 6:
            raise Malformed(f"{len(parts)} parts, {start} of them identities")
        return cls(parts[:start], parts[start + 1], parts[start + 2 : start + 6], parts[start + 6 :])

    def header(self) -> dict[str, Any]:
        """Return the header.  Raises Malformed when it is none."""
        if len(self.dicts[0]) > MAX_HEADER:
            raise Malformed("an endless header")
        try:
            header = json.loads(self.dicts[0])
        except (ValueError, RecursionError):
            raise Malformed("the header is not JSON") from None
        if not isinstance(header, dict) or not isinstance(header.get("msg_type"), str):
            raise Malformed("the header has no msg_type")
        return header

    def is_signed_by(self, signer: Signer) -> bool:
        """Whether the signature is right."""
        return hmac.compare_digest(self.signature, signer.sign(self.dicts))

    def signed(self, signer: Signer) -> list[bytes]:
        """Return the parts with a signature of ``signer``."""
        return [*self.identities, DELIMITER, signer.sign(self.dicts), *self.dicts, *self.buffers]


def compose(
    msg_type: str, content: dict[str, Any], *, identities: Sequence[bytes] = (), parent: bytes = b"{}"
) -> Message:
    """Return a message of the relay's own; ``parent`` is the header of the request that it answers, if any."""
    header = {
        "msg_id": secrets.token_hex(16),
        "msg_type": msg_type,
        "username": "clawdspace",
        "session": "clawdspace",
        "date": datetime.now(UTC).isoformat(),
        "version": PROTOCOL_VERSION,
    }
    dicts = [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]
    return Message(list(identities), b"", dicts, [])
