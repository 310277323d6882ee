"""The stream to a space's agent: an exec of the connector, started over a connection of our own.

docker-py's socket blocks and can lose the first bytes; this one is plain asyncio.
"""

from __future__ import annotations

import asyncio
import json
import struct

from docker import APIClient

from ...errors import Broken, Conflict, NotFound, SpaceError, Unavailable
from .config import CONNECTOR, CONNECTOR_UID

BUFFER = 256 * 1024
MAX_STDERR = 4096
MAX_ERROR_BODY = 64 * 1024
DIAL_SECONDS = 15.0

_FRAME = struct.Struct(">BxxxI")
_STDOUT, _STDERR = 1, 2
_END_OF_HEADERS = b"\r\n\r\n"


class Deframer:
    """Takes Docker's multiplexed stream apart as it comes; holds back nothing but part of an 8-byte header."""

    def __init__(self) -> None:
        self.stderr = bytearray()
        self._header = bytearray()
        self._kind = 0
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return what of ``data`` is stdout; the beginning of stderr is kept in ``stderr``.

        Raises ConnectionError when this is no multiplexed stream.
        """
        view = memoryview(data)
        parts: list[memoryview] = []
        position = 0
        while position < len(view):
            if not self._left:
                position += self._read_header(view[position:])
                continue
            part = view[position : position + self._left]
            position += len(part)
            self._left -= len(part)
            if self._kind == _STDOUT:
                parts.append(part)
            else:
                self.stderr += part[: MAX_STDERR - len(self.stderr)]
        return b"".join(parts)

    def _read_header(self, view: memoryview) -> int:
        missing = _FRAME.size - len(self._header)
        self._header += view[:missing]
        if len(self._header) == _FRAME.size:
            self._kind, self._left = _FRAME.unpack(self._header)
            if self._kind not in (_STDOUT, _STDERR):
                raise ConnectionError(f"the Docker engine sent no stream but {bytes(self._header)!r}")
            self._header.clear()
        return min(missing, len(view))


class ExecStream:
    """The stdin and stdout of an exec as a protocols.Stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._deframer = Deframer()

    async def read(self) -> bytes:
        """Return the next bytes of stdout.  Raises ConnectionError with what the connector complained of, if it did."""
        while data := await self._reader.read(BUFFER):
            if payload := self._deframer.feed(data):
                return payload
        if complaint := self._deframer.stderr.decode(errors="replace").strip():
            raise ConnectionError(f"the connector in the space ended: {complaint}")
        return b""

    def write(self, data: bytes) -> None:
        """Queue bytes for stdin."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until few bytes are queued."""
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection, at which the connector ends."""
        self._writer.close()


def create_connector(client: APIClient, container: str) -> str:
    """Create the exec of a container's connector, and return its path in the engine's API."""
    user = f"{CONNECTOR_UID}:{CONNECTOR_UID}"
    created = client.exec_create(container, CONNECTOR, stdin=True, user=user)
    return f"/v{client.api_version}/exec/{created['Id']}/start"


async def start_exec(socket: str, path: str) -> ExecStream:
    """Start a created exec, whose ``path`` is its place in the engine's API, over a new connection to ``socket``.

    Raises Unavailable, Conflict when the space cannot take it now, NotFound.
    """
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket, limit=BUFFER)
            try:
                await _upgrade(reader, writer, path)
            except BaseException:
                writer.close()
                raise
    except TimeoutError:
        raise Unavailable(f"the Docker engine did not start a stream within {DIAL_SECONDS:g} s") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unavailable(f"the stream to the Docker engine broke: {error}") from error
    writer.transport.set_write_buffer_limits(high=BUFFER)
    return ExecStream(reader, writer)


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """Ask for the exec's raw stream; what follows the response's headers stays in ``reader``."""
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = await reader.readuntil(_END_OF_HEADERS)
    status = head.split(b" ", 2)[1:2]
    if status != [b"101"]:
        raise _refusal(status, await reader.read(MAX_ERROR_BODY))


def _refusal(status: list[bytes], body: bytes) -> SpaceError:
    kind = {b"404": NotFound, b"409": Conflict}.get(status[0], Unavailable) if status else Broken
    return kind(f"the Docker engine refused a stream: {body.decode(errors='replace').strip()}")
