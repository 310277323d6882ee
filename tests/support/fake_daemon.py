"""The API on a unix socket, over a ``FakeHost``, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawdspace_ext.handlers.local import local_server
from support.fake_host import FakeHost


@dataclass
class FakeDaemon:
    """``run`` a coroutine of the host where the host lives."""

    host: FakeHost
    socket_path: Path
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def call(self, function: Any, *args: Any) -> None:
        self.loop.call_soon_threadsafe(function, *args)


@contextmanager
def fake_daemon(folder: Path, name: str = "daemon.sock") -> Iterator[FakeDaemon]:
    """Serve until the block ends."""
    path = folder / name
    path.unlink(missing_ok=True)
    ready = threading.Event()
    found: list[FakeDaemon] = []

    async def serve() -> None:
        host = FakeHost()
        server = local_server(host)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1024)
            listener.setblocking(False)
            server.add_socket(listener)
            stop = asyncio.Event()
            stops.append(stop)
            found.append(FakeDaemon(host, path, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()
            server.stop()
        await server.close_all_connections()
        for process in host.processes:
            process.signal(9)

    stops: list[asyncio.Event] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    found[0].call(stops[0].set)
    thread.join(20)
    assert not thread.is_alive()
