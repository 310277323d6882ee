"""The insides of a daemon that serves kernels, and a notebook to use them with."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient

from clawdspace_ext import __version__, paths
from clawdspace_ext.handlers.kernels import routes_of
from clawdspace_ext.handlers.local import local_server
from clawdspace_ext.handlers.routes import ROUTES
from clawdspace_ext.relay import Kernels
from clawdspace_ext.relay.kernel import Kernel
from clawdspace_ext.service import Spaces
from clawdspace_ext.spaces import SpaceSpec
from clawdspace_ext.testing import LocalEngine

Output = list[tuple[str, dict[str, Any]]]


class Host:
    """What the daemon holds, and a space named dev; ``restart`` makes it anew around the same engine."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.engine = LocalEngine(home / "spaces")

    async def begin(self) -> None:
        self.spaces = Spaces([self.engine])
        await self.spaces.begin()
        self.kernels = Kernels(self.spaces, self._home / "data", self._home / "run")
        await self.kernels.recover()

    async def leave(self) -> None:
        """Drop everything that a daemon holds; agents and kernels go on."""
        await self.kernels.close()
        for link in self.spaces._links.values():
            await link.close()
        assert self.spaces._keeper is not None
        self.spaces._keeper.cancel()

    async def restart(self) -> None:
        await self.leave()
        await self.begin()

    async def kernel(self, kernel_id: str = "a kernel", space: str | None = "dev", **options: Any) -> Kernel:
        """Start a kernel owned by this process."""
        options = {"owner_pid": os.getpid(), "env": {}, "user": "me", **options}
        return await self.kernels.start(kernel_id, space, **options)


class Notebook:
    """An unmodified client that keeps what cells put out."""

    def __init__(self, kernel: Kernel) -> None:
        self.client = AsyncKernelClient()
        info = dict(kernel.connection_info)
        self.client.load_connection_info({**info, "key": info["key"].encode()})
        self.client.start_channels()

    async def ready(self) -> Notebook:
        await self.client.wait_for_ready(timeout=30)
        return self

    async def run(self, code: str, **options: Any) -> tuple[dict[str, Any], Output]:
        """Run a cell and return its reply's content and its output."""
        output: Output = []
        reply = await self.client.execute_interactive(
            code, output_hook=lambda m: output.append((m["msg_type"], m["content"])), timeout=30, **options
        )
        return reply["content"], output

    async def text(self, code: str) -> str:
        """Run a cell and return what it printed."""
        reply, output = await self.run(code)
        assert reply["status"] == "ok", reply
        return printed(output)

    def close(self) -> None:
        self.client.stop_channels()


def printed(output: Output) -> str:
    return "".join(content["text"] for kind, content in output if kind == "stream")


@contextmanager
def kernel_daemon(home: Path) -> Iterator[Host]:
    """Serve a ``Host`` where clients look for the daemon of CLAWDSPACE_HOME, in a thread of its own."""
    address = paths.socket_path()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    listener.setblocking(False)
    host = Host(home)
    started, leave = threading.Event(), threading.Event()

    async def serve() -> None:
        await host.begin()
        await host.spaces.create("dev", SpaceSpec(), owner="me")
        server = local_server(host.spaces, [*ROUTES, *routes_of(host.kernels)])
        server.add_socket(listener)
        started.set()
        await asyncio.to_thread(leave.wait)
        server.stop()
        await host.leave()
        await host.engine.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(20)
    record = {"pid": os.getpid(), "version": __version__, "socket": str(address), "python": "", "host": ""}
    paths.lock_path().write_text(json.dumps(record))
    yield host
    leave.set()
    thread.join(20)
    assert not thread.is_alive()
