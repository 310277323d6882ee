"""What ZeroMQ sockets say to each other: ZMTP 3.1 and 3.0 with the NULL mechanism, without I/O.

One ``Codec`` is one end of one connection.  The agent is the client of a kernel's sockets (DEALER, SUB), the daemon the
server of unmodified Jupyter clients (ROUTER, XPUB, REP); both use this file.  Encryption is not spoken: the streams
below are unix sockets in private folders.
"""

from __future__ import annotations

import struct

from .frames import COMMAND, MAX_COMMAND, MAX_MESSAGE, Framer, ZmtpError, encode, head

MYPY = False
if MYPY:
    from typing import Dict, List

MAX_TOPICS = 256

_GREETING_SIZE = 64
_SIGNATURE = b"\xff" + b"\0" * 7 + b"\x01\x7f"
_GREETING = (_SIGNATURE + b"\x03\x01" + b"NULL").ljust(_GREETING_SIZE, b"\0")
_PROPERTY_SIZE = struct.Struct(">I")

#: Whom each kind of socket talks to.
_PEERS = {
    "DEALER": ("ROUTER", "REP", "DEALER"),
    "ROUTER": ("DEALER", "REQ", "ROUTER"),
    "REP": ("REQ", "DEALER"),
    "SUB": ("PUB", "XPUB"),
    "XPUB": ("SUB", "XSUB"),
}


class Codec(Framer):
    """One end of a connection.

    ``receive`` takes bytes and returns the messages they complete; ``outgoing`` returns what the protocol itself has to
    say (greeting, handshake, heartbeats) and must be sent after each call.  Messages may be sent, as ``encode`` makes
    them, once ``ready``.  ``topics`` are the prefixes that the peer of an XPUB has subscribed to.
    """

    def __init__(self, socket_type: str, identity: bytes = b"", max_message: int = MAX_MESSAGE) -> None:
        super().__init__(max_message)
        self.ready = False
        self.peer_identity = b""
        self.topics: Dict[bytes, None] = {}
        self._type = socket_type
        self._identity = identity
        self._minor = -1
        self._out = [_GREETING]

    def outgoing(self) -> bytes:
        """Return what must be sent now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def subscribe(self, topic: bytes = b"") -> bytes:
        """Return the bytes that subscribe a SUB to everything that begins with ``topic``."""
        if self._minor == 0:
            return encode([b"\x01" + topic])
        return _command(b"SUBSCRIBE", topic)

    def wants(self, topic: bytes) -> bool:
        """Whether the peer of an XPUB has subscribed to ``topic``."""
        return any(topic.startswith(prefix) for prefix in self.topics)

    def receive(self, data: bytes) -> List[List[bytes]]:
        """Return the messages that ``data`` completes.  Raises ZmtpError."""
        if self._minor < 0:
            self._buffer += data
            data = b""
            if not self._greeted():
                return []
        messages = super().receive(data)
        if messages and not self.ready:
            raise ZmtpError("a message before the handshake")
        if self._type == "XPUB":
            for message in messages:
                self._subscribed(message[0])
            return []
        return messages

    # -- the handshake -----------------------------------------------------------------------------------------------

    def _greeted(self) -> bool:
        """Take the greeting, if it is all there."""
        buffer = self._buffer
        if buffer[:1] != b"\xff" or (len(buffer) > 9 and buffer[9] != 0x7F) or (len(buffer) > 10 and buffer[10] < 3):
            raise ZmtpError("the peer does not speak ZMTP 3")
        if len(buffer) < _GREETING_SIZE:
            return False
        mechanism = bytes(buffer[12:32]).rstrip(b"\0")
        if mechanism != b"NULL":
            raise ZmtpError("the peer wants the security mechanism %r" % mechanism)
        self._minor = buffer[11] if buffer[10] == 3 else 1
        del buffer[:_GREETING_SIZE]
        ready = _property(b"Socket-Type", self._type.encode())
        if self._identity:
            ready += _property(b"Identity", self._identity)
        self._out.append(_command(b"READY", ready))
        return True

    def _meet(self, properties: Dict[bytes, bytes]) -> None:
        peer = properties.get(b"socket-type", b"").decode("latin-1")
        if peer not in _PEERS[self._type]:
            raise ZmtpError("a %s does not talk to a %r" % (self._type, peer))
        identity = properties.get(b"identity", b"")
        if len(identity) > 255:
            raise ZmtpError("an identity is longer than 255 bytes")
        # Identities that begin with a zero are the server's own to give.
        self.peer_identity = b"" if identity.startswith(b"\0") else identity
        self.ready = True

    # -- commands ----------------------------------------------------------------------------------------------------

    def command(self, body: bytes) -> None:
        """Take the handshake, a heartbeat or a subscription.  Raises ZmtpError."""
        if not body or len(body) < 1 + body[0]:
            raise ZmtpError("a command without a name")
        name, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if name == b"READY":
            self._meet(_properties(rest))
        elif name == b"ERROR":
            raise ZmtpError("the peer refuses: %r" % rest[1:].decode("utf-8", "replace"))
        elif name == b"PING":
            self._out.append(_command(b"PONG", rest[2:]))  # after the time to live comes what it wants to hear again
        elif name == b"SUBSCRIBE":
            self._subscribed(b"\x01" + rest)
        elif name == b"CANCEL":
            self._subscribed(b"\x00" + rest)
        elif name != b"PONG":
            raise ZmtpError("the unknown command %r" % name)

    def _subscribed(self, change: bytes) -> None:
        topic = change[1:]
        if change[:1] == b"\x00":
            self.topics.pop(topic, None)
        elif change[:1] == b"\x01":
            if len(self.topics) >= MAX_TOPICS or len(topic) > MAX_COMMAND:
                raise ZmtpError("too many subscriptions")
            self.topics[topic] = None


def _command(name: bytes, rest: bytes) -> bytes:
    body = bytes([len(name)]) + name + rest
    return head(COMMAND, len(body)) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + _PROPERTY_SIZE.pack(len(value)) + value


def _properties(data: bytes) -> Dict[bytes, bytes]:
    """Return the properties of a READY, their names in lower case."""
    found: Dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        name_end = position + 1 + data[position]
        if len(data) < name_end + _PROPERTY_SIZE.size:
            raise ZmtpError("a property is cut short")
        start = name_end + _PROPERTY_SIZE.size
        end = start + _PROPERTY_SIZE.unpack_from(data, name_end)[0]
        if len(data) < end:
            raise ZmtpError("a property is cut short")
        found[data[position + 1 : name_end].lower()] = data[start:end]
        position = end
    return found
