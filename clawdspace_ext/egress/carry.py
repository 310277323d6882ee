"""Bytes between a flow and a connection, with back-pressure, each direction ending on its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass

from ..flow import Chunk, Flow

READ_SIZE = 64 * 1024
#: Seconds without a byte either way after which a connection is given up.
IDLE_SECONDS = 900.0


@dataclass(slots=True)
class Carried:
    """Bytes that left and entered a space, so far."""

    sent: int = 0
    received: int = 0

    @property
    def total(self) -> int:
        """Both ways."""
        return self.sent + self.received


async def carry(
    flow: Flow,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    carried: Carried,
    idle: float = IDLE_SECONDS,
) -> None:
    """Carry until both directions have ended, or one has failed, or nothing came for ``idle`` seconds."""
    own = Carried()
    jobs = {asyncio.create_task(_outwards(flow, writer, own)), asyncio.create_task(_inwards(reader, flow, own))}
    waiting, failed = set(jobs), False
    try:
        while waiting and not failed:
            seen = own.total
            done, waiting = await asyncio.wait(waiting, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
            failed = any(job.exception() is not None for job in done)
            if not done and own.total == seen:
                break
    finally:
        carried.sent += own.sent
        carried.received += own.received
        for job in waiting:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        if waiting or failed:
            flow.reset()
            _break_off(writer)
        else:
            await _hang_up(writer)


def _break_off(writer: asyncio.StreamWriter) -> None:
    """Reset a connection: a mere end would let a part pass for the whole."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _outwards(flow: Flow, writer: asyncio.StreamWriter, carried: Carried) -> None:
    while (item := await flow.read()) is not None:
        if isinstance(item, Chunk):
            writer.write(item.data)
            carried.sent += len(item.data)
            await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _inwards(reader: asyncio.StreamReader, flow: Flow, carried: Carried) -> None:
    while data := await reader.read(READ_SIZE):
        await flow.write(data)
        carried.received += len(data)
    flow.end()
