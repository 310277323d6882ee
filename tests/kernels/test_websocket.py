"""Kernel websockets of a Jupyter server that send each message at once."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.websocket import WebSocketClientConnection

from clawdspace_kernels.websocket import NoDelay, install_no_delay

pytest_plugins = ["pytest_jupyter.jupyter_server"]


class Configured(ZMQChannelsWebsocketConnection):
    """What somebody else has configured; remembers the socket of its last connection."""

    nodelay = -1

    async def connect(self) -> Any:
        """Look at what was set before."""
        sock = self.websocket_handler.ws_connection.stream.socket
        Configured.nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        return await super().connect()


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    """A server that is configured with a connection class of its own."""
    return {"ServerApp": {"kernel_websocket_connection_class": Configured}}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_configured_class_is_kept_and_sends_without_delay(
    jp_serverapp: ServerApp,
    jp_fetch: Callable[..., Awaitable[Any]],
    jp_ws_fetch: Callable[..., Awaitable[WebSocketClientConnection]],
) -> None:
    install_no_delay(jp_serverapp)
    install_no_delay(jp_serverapp)
    installed = jp_serverapp.web_app.settings["kernel_websocket_connection_class"]
    assert installed.__mro__[1:3] == (NoDelay, Configured)
    answer = await jp_fetch("api", "kernels", method="POST", allow_nonstandard_methods=True)
    kernel = json.loads(answer.body)["id"]
    connection = await jp_ws_fetch("api", "kernels", kernel, "channels")
    await connection.read_message()
    connection.close()
    assert Configured.nodelay == 1
    await jp_fetch("api", "kernels", kernel, method="DELETE")
