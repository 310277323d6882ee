"""What Jupyter clients see of a kernel: five sockets and a key, the same for as long as there is the kernel."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..agent.kernel_process import CONTROL, HEARTBEAT, IOPUB, SHELL, STDIN
from .endpoint import Client, Endpoint, echo, ignore
from .messages import Malformed, Message, Signer, compose

log = logging.getLogger(__name__)

_PORTS = {"shell_port": SHELL, "iopub_port": IOPUB, "stdin_port": STDIN, "control_port": CONTROL, "hb_port": HEARTBEAT}


class Outside:
    """The sockets in ``folder``, signing with ``key``; ``on_request(channel, message)`` takes what clients ask.

    Clients get links to the sockets, because jupyter_client deletes what it was given when it is done; ``relink`` makes
    them anew.
    """

    def __init__(self, folder: Path, key: str, on_request: Callable[[int, Message], Awaitable[None]]) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = key
        self._signer = Signer(key.encode())
        self._on_request = on_request
        self.iopub = Endpoint(self._socket(IOPUB), "XPUB", ignore)
        self._heartbeat = Endpoint(self._socket(HEARTBEAT), "REP", echo)
        self._routers = {
            number: Endpoint(self._socket(number), "ROUTER", self._requests_on(number))
            for number in (SHELL, STDIN, CONTROL)
        }

    @property
    def connection_info(self) -> dict[str, Any]:
        """What a connection file holds."""
        return {
            "transport": "ipc",
            "ip": str(self.folder / "c"),
            "key": self._key,
            "signature_scheme": "hmac-sha256",
            **_PORTS,
        }

    async def listen(self) -> None:
        """Begin to listen."""
        for endpoint in self._endpoints:
            await endpoint.listen()
        self.relink()

    def relink(self) -> None:
        """Make the links that clients get."""
        for number in _PORTS.values():
            link = self.folder / f"c-{number}"
            link.unlink(missing_ok=True)
            link.symlink_to(self._socket(number).name)

    def close(self) -> None:
        """Hang up on every client."""
        for endpoint in self._endpoints:
            endpoint.close()

    def deliver(self, channel: int, message: Message) -> None:
        """Send what the kernel said: output to all who subscribed, the rest to whom it is addressed."""
        parts = message.signed(self._signer)
        if channel == IOPUB:
            self.iopub.publish(parts[0] if message.identities else b"", parts)
        elif channel in self._routers:
            self._routers[channel].send(parts[0], parts[1:])

    async def catch_up(self) -> None:
        """Wait until no client is far behind."""
        for endpoint in self._endpoints:
            await endpoint.catch_up()

    @property
    def _endpoints(self) -> tuple[Endpoint, ...]:
        return (self.iopub, self._heartbeat, *self._routers.values())

    def _socket(self, number: int) -> Path:
        return self.folder / f"s-{number}"

    def _requests_on(self, channel: int) -> Callable[[Client, list[bytes]], Awaitable[None]]:
        async def take(client: Client, parts: list[bytes]) -> None:
            try:
                message = Message.parse([client.identity, *parts])
                header = message.header()
                if not message.is_signed_by(self._signer):
                    raise Malformed("the signature is wrong")
            except Malformed as error:
                log.warning("a request is ignored: %s", error)
                return
            if header["msg_type"] == "shutdown_request":
                self._answer_shutdown(channel, message)
            else:
                await self._on_request(channel, message)

        return take

    def _answer_shutdown(self, channel: int, request: Message) -> None:
        """Say yes, and do nothing: managers ask the provisioner next, and only the manager may end a kernel."""
        try:
            restart = bool(json.loads(request.dicts[3])["restart"])
        except (ValueError, TypeError, KeyError, RecursionError):
            restart = False
        content = {"status": "ok", "restart": restart}
        self.deliver(
            channel, compose("shutdown_reply", content, identities=request.identities, parent=request.dicts[0])
        )
