"""The API on a unix socket, in a thread of its own: over a host in memory, or over any other."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawdspace_ext.handlers.local import local_server
from support.fake_host import FakeHost


@dataclass
class Served:
    """A host that is being served."""

    host: Any
    socket_path: Path
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function where the host lives."""
        self.loop.call_soon_threadsafe(function, *args)


@dataclass
class FakeDaemon(Served):
    """The same with the host in memory."""

    host: FakeHost


@contextmanager
def serving(
    path: Path, hosting: Callable[[], AbstractAsyncContextManager[Any]], kind: type[Served] = Served
) -> Iterator[Any]:
    """Serve what ``hosting`` makes until the block ends."""
    path.unlink(missing_ok=True)
    ready = threading.Event()
    found: list[Served] = []

    async def serve() -> None:
        async with hosting() as host:
            server = local_server(host)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen(1024)
                listener.setblocking(False)
                server.add_socket(listener)
                found.append(kind(host, path, asyncio.get_running_loop(), asyncio.Event()))
                ready.set()
                await found[0].stop.wait()
                server.stop()
            await server.close_all_connections()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield found[0]
    finally:
        if found:
            found[0].call(found[0].stop.set)
        thread.join(20)
    assert not thread.is_alive()


@contextmanager
def fake_daemon(folder: Path, name: str = "daemon.sock") -> Iterator[FakeDaemon]:
    """Serve a host in memory until the block ends."""
    with serving(folder / name, _fake_host, FakeDaemon) as daemon:
        yield daemon


@asynccontextmanager
async def _fake_host() -> AsyncIterator[FakeHost]:
    host = FakeHost()
    yield host
    for process in host.processes:
        process.signal(9)
