"""A connected unix socket as the daemon's stream to an agent."""

from __future__ import annotations

import asyncio
import socket

from ...protocols import Stream

_LIMIT = 256 * 1024


async def connected_stream(connection: socket.socket) -> Stream:
    """Return a stream over a connected socket, which it owns from now on."""
    try:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_LIMIT)
    except BaseException:
        connection.close()
        raise
    return _SocketStream(reader, writer)


class _SocketStream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(_LIMIT)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        # What is queued is dropped: a frozen agent might never take it, and the link sends it again.
        self._writer.transport.abort()
