"""Kernel websockets without delay.

Jupyter Server leaves Nagle's algorithm on, which holds small messages back until earlier ones are acknowledged: 40 ms
for a cell that takes 4.  The mixin works with whatever connection class is configured, for local kernels too.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.serverapp import ServerApp

_SETTING = "kernel_websocket_connection_class"


class NoDelay:
    """Mix in before a subclass of BaseKernelWebsocketConnection."""

    websocket_handler: Any

    def connect(self) -> Any:
        """Send each message at once, then connect as the class does."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()  # type: ignore[misc]  # the class this is mixed into has it


def install_no_delay(server: ServerApp) -> None:
    """Let kernel websockets that are opened from now on send without delay."""
    configured = server.web_app.settings[_SETTING]
    if not issubclass(configured, NoDelay):
        server.web_app.settings[_SETTING] = type(f"NoDelay{configured.__name__}", (NoDelay, configured), {})
