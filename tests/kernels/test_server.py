"""A Jupyter server with kernels in spaces, as a page uses it: REST and one websocket that stays open."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from tornado.websocket import WebSocketClientConnection

from support.kernels import Host

pytest_plugins = ["pytest_jupyter.jupyter_server"]

#: What asyncio says of sockets that jupyter_server leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def jp_environ(jp_environ: Path, daemon: Host) -> Path:
    """The server's environment, with our data folder and daemon in place of the plugin's."""
    return jp_environ


class Page:
    """A kernel and the page's websocket to it."""

    def __init__(
        self, fetch: Callable[..., Awaitable[Any]], connection: WebSocketClientConnection, kernel: str
    ) -> None:
        self._fetch = fetch
        self._connection = connection
        self.kernel = kernel

    async def post(self, verb: str) -> None:
        await self._fetch("api", "kernels", self.kernel, verb, method="POST", allow_nonstandard_methods=True)

    async def model(self) -> dict[str, Any]:
        model: dict[str, Any] = json.loads((await self._fetch("api", "kernels", self.kernel)).body)
        return model

    async def send(self, code: str) -> str:
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self._connection.write_message(json.dumps(message))
        return message_id

    async def heard(self, message_id: str) -> list[dict[str, Any]]:
        """Return what a cell caused, up to idle."""
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["content"].get("execution_state") != "idle":
            raw = await self._connection.read_message()
            assert raw, "the websocket was closed"
            message = json.loads(raw)
            if message["parent_header"].get("msg_id") == message_id and message["channel"] == "iopub":
                seen.append(message)
        return seen

    async def run(self, code: str) -> str:
        """Run a cell and return what it printed, or the name of its error."""
        seen = await self.heard(await self.send(code))
        return "".join(m["content"].get("text", m["content"].get("ename", "")) for m in seen)

    async def status(self, state: str) -> None:
        """Wait until the page is told that the kernel is in a state."""
        while True:
            raw = await self._connection.read_message()
            assert raw, "the websocket was closed"
            if json.loads(raw)["content"].get("execution_state") == state:
                return


@asynccontextmanager
async def page(fetch: Fetch, ws_fetch: Fetch) -> AsyncIterator[Page]:
    """Open a page with a kernel in dev."""
    answer = await fetch("api", "kernels", method="POST", body=json.dumps({"name": "clawdspace-dev"}))
    kernel = json.loads(answer.body)["id"]
    connection = await ws_fetch("api", "kernels", kernel, "channels")
    try:
        yield Page(fetch, connection, kernel)
    finally:
        connection.close()
        await fetch("api", "kernels", kernel, method="DELETE")


async def test_a_restart_and_an_interrupt_keep_the_page_connected(
    jp_serverapp: ServerApp, jp_fetch: Fetch, jp_ws_fetch: Fetch
) -> None:
    async with page(jp_fetch, jp_ws_fetch) as opened:
        assert await opened.run("x = 41\nprint(x + 1)") == "42\n"
        await opened.post("restart")
        assert await opened.run("print('x' in globals())") == "False\n"
        cell = await opened.send("import time\nprint('begun', flush=True)\ntime.sleep(60)")
        await asyncio.sleep(0.5)
        await opened.post("interrupt")
        assert [m["content"].get("ename") for m in await opened.heard(cell)][-2] == "KeyboardInterrupt"


async def test_a_kernel_that_dies_is_started_again_in_its_space_and_says_why(
    jp_serverapp: ServerApp, jp_fetch: Fetch, jp_ws_fetch: Fetch
) -> None:
    async with page(jp_fetch, jp_ws_fetch) as opened:
        assert await opened.run("open('kept', 'w').write('x')\nprint('written')") == "written\n"
        await opened.send("import os\nos.kill(os.getpid(), 9)")
        await opened.status("restarting")
        assert await opened.run("print(open('kept').read())") == "x\n"
        assert (await opened.model())["reason"] == "killed by signal 9 (SIGKILL)"
