"""A ZeroMQ socket that the daemon offers to Jupyter clients, on a unix socket, without libzmq.

Every client has a queue of its own.  One that is QUEUE bytes behind makes the kernel wait as long as it goes on
reading; one that has not read anything for STALL seconds is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..agent.frames import ZmtpError, pieces
from ..agent.zmtp import Codec

log = logging.getLogger(__name__)

READ_SIZE = 256 * 1024
QUEUE = 64 * 1024 * 1024
STALL = 30.0
MAX_CLIENTS = 256


class Client:
    """One connection to an endpoint."""

    def __init__(self, codec: Codec, writer: asyncio.StreamWriter) -> None:
        self.identity = b""
        self._codec = codec
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=QUEUE)

    @property
    def queued(self) -> int:
        """How many bytes wait for it to read."""
        return self._writer.transport.get_write_buffer_size()

    def wants(self, topic: bytes) -> bool:
        """Whether it has subscribed to ``topic``."""
        return self._codec.wants(topic)

    def send(self, *frames: bytes) -> None:
        """Queue the frames of a message, in as many pieces as they come."""
        for data in frames:
            if not self._writer.is_closing():
                self._writer.write(data)

    async def catch_up(self) -> None:
        """Wait until it is less far behind; cut it off when it reads nothing for STALL seconds."""
        while self.queued > QUEUE:
            before = self.queued
            try:
                await asyncio.wait_for(self._writer.drain(), STALL)
            except ConnectionError:
                return
            except TimeoutError:
                if self.queued >= before:
                    log.warning("a client has read nothing for %d s: it is cut off", STALL)
                    self.cut()

    def cut(self) -> None:
        """Hang up at once, dropping what is queued."""
        self._writer.transport.abort()


class Endpoint:
    """Listens at ``path`` as a socket of type ROUTER, XPUB or REP.

    ``on_message(client, parts)`` is awaited for each message, one at a time per client, so that a slow receiver slows
    its senders.
    """

    def __init__(
        self, path: Path, socket_type: str, on_message: Callable[[Client, list[bytes]], Awaitable[None]]
    ) -> None:
        self.clients: dict[bytes, Client] = {}
        self.met = asyncio.Event()
        self._path = path
        self._type = socket_type
        self._on_message = on_message
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Begin to listen, in place of whatever socket is there."""
        self._server = await asyncio.start_unix_server(self._accept, self._path, backlog=128)

    def close(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        self._path.unlink(missing_ok=True)

    def send(self, identity: bytes, parts: list[bytes]) -> None:
        """Send to one client; as with ZeroMQ, what is for nobody is dropped."""
        client = self.clients.get(identity)
        if client is not None:
            client.send(*pieces(parts))

    def publish(self, topic: bytes, parts: list[bytes]) -> None:
        """Send to every client that subscribed to ``topic``."""
        frames = pieces(parts)
        for client in self.clients.values():
            if client.wants(topic):
                client.send(*frames)

    async def catch_up(self) -> None:
        """Wait for those who are far behind."""
        for client in list(self.clients.values()):
            if client.queued > QUEUE:
                await client.catch_up()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._tasks) > MAX_CLIENTS:
            writer.transport.abort()
            return
        codec = Codec(self._type)
        client = Client(codec, writer)
        try:
            await self._serve(client, codec, reader)
        except (ZmtpError, ConnectionError) as error:
            log.info("a client of %s: %s", self._path, error)
        except asyncio.CancelledError:
            pass  # the endpoint closes; a server's callback has nobody to tell
        finally:
            if self.clients.get(client.identity) is client:
                del self.clients[client.identity]
            client.cut()

    async def _serve(self, client: Client, codec: Codec, reader: asyncio.StreamReader) -> None:
        client.send(codec.outgoing())
        while data := await reader.read(READ_SIZE):
            messages = codec.receive(data)
            if out := codec.outgoing():
                client.send(out)
            if codec.ready and not client.identity:
                client.identity = codec.peer_identity or b"\0" + secrets.token_bytes(4)
                # A client that comes back under its name takes the place of its broken connection.
                self.clients[client.identity] = client
                self.met.set()
            for parts in messages:
                await self._on_message(client, parts)


async def echo(client: Client, parts: list[bytes]) -> None:
    """Answer a heartbeat."""
    client.send(*pieces(parts))


async def ignore(client: Client, parts: list[bytes]) -> None:
    """Take no notice: nobody has anything to say to a publisher."""
