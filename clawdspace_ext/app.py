"""The composition root of the Jupyter server extension."""

from __future__ import annotations

from pathlib import Path

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Unicode

from clawdspace_kernels.websocket import install_no_delay

from .daemon_process import ensure_daemon
from .handlers.access import Gate
from .handlers.jupyter import jupyter_handlers
from .handlers.routes import FORWARDED, SOCKETS
from .handlers.upstream import Upstream
from .keys import KeyStore


class ClawdspaceApp(ExtensionApp):
    """Serves the spaces API under a Jupyter server's base URL."""

    name = "clawdspace_ext"
    description = "Self-hosted sandboxes as a Jupyter workbench."

    socket_path = Unicode(
        "", help="The daemon's socket. Empty means the daemon of this user, started when it is first needed."
    ).tag(config=True)

    keys_path = Unicode("", help="The file of named API keys. Empty means the one that `clawdspace keys` writes.").tag(
        config=True
    )

    no_delay = Bool(
        True, help="Send kernel messages at once: a cell takes 5 ms instead of 45. False leaves the server as it is."
    ).tag(config=True)

    def initialize_settings(self) -> None:
        """Make what the handlers use."""
        if self.no_delay and self.serverapp is not None:
            install_no_delay(self.serverapp)
        self._upstream = Upstream(self._locate)
        self.settings.update(
            clawdspace_upstream=self._upstream,
            clawdspace_gate=Gate(KeyStore(Path(self.keys_path) if self.keys_path else None)),
        )

    def initialize_handlers(self) -> None:
        """Put our routes into the server's table."""
        self.handlers.extend(jupyter_handlers(FORWARDED, SOCKETS))

    async def stop_extension(self) -> None:
        """Let go of the daemon, which lives on."""
        self._upstream.close()

    def _locate(self) -> Path:
        return Path(self.socket_path) if self.socket_path else ensure_daemon()
