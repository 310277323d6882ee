"""The provisioner: what jupyter_client asks when a kernel is to live in a space."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast
from urllib.parse import quote

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Unicode

from clawdspace_ext.client import SpacesClient
from clawdspace_ext.daemon_process import ensure_daemon
from clawdspace_ext.errors import NotFound, SpaceError

POLL_PAUSE = 0.1


class SpaceProvisioner(KernelProvisionerBase):
    """Runs a kernel in a space; the daemon does all of it.

    Nothing of this process's environment goes into the space, only what the kernel spec itself sets in ``env``.
    """

    space = Unicode(
        None, allow_none=True, help="The space to run in. None means a throwaway space that goes with the kernel."
    ).tag(config=True)

    _launched = False
    _mourned = False

    @property
    def has_process(self) -> bool:
        """Whether a kernel was launched and not yet cleaned up."""
        return self._launched

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Leave the command to the daemon, and of the environment keep what the spec sets."""
        return {**kwargs, "cmd": [], "env": dict(self.kernel_spec.env)}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel, or a new process for it, and return how to connect."""
        started = await self._ask(
            "POST",
            "",
            {"id": self.kernel_id, "space": self.space, "ownerPid": os.getpid(), "env": kwargs.get("env", {})},
        )
        shape = started["connection"]
        self.connection_info = cast("KernelConnectionInfo", {**shape, "key": shape["key"].encode()})
        self._launched, self._mourned = True, False
        return self.connection_info

    async def poll(self) -> int | None:
        """Return the exit code of a kernel that has ended; None while it runs, or while nobody can tell."""
        try:
            kernel = (await self._ask("GET", self._path))["kernel"]
        except NotFound:
            return 1
        except SpaceError as error:
            self.log.debug("nobody can tell how kernel %s is: %s", self.kernel_id, error)
            return None
        if kernel["state"] == "running":
            return None
        self._mourn(kernel["reason"])
        return int(kernel["exitCode"])

    async def wait(self) -> int | None:
        """Return the exit code once the kernel has ended."""
        # What is waited for happens in another process, where no event of ours can be set.
        while (code := await self.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_PAUSE)
        return code

    async def send_signal(self, signum: int) -> None:
        """Signal the kernel's process group."""
        if signum:
            await self._tell("POST", f"{self._path}/signal", {"signal": signum})

    async def kill(self, restart: bool = False) -> None:
        """End the kernel at once; its space goes on."""
        self._mourned = True
        await self._tell("POST", f"{self._path}/shutdown", {"now": True, "restart": restart})

    async def terminate(self, restart: bool = False) -> None:
        """End the kernel."""
        await self.kill(restart)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """End the kernel as it ends when asked politely; the daemon swallowed the client's own request."""
        self._mourned = True
        await self._tell("POST", f"{self._path}/shutdown", {"now": False, "restart": restart})

    async def cleanup(self, restart: bool = False) -> None:
        """Forget the kernel, and its throwaway space with it, unless it is to be launched again."""
        if self._launched and not restart:
            self._launched = False
            await self._tell("DELETE", self._path)

    def _mourn(self, reason: str) -> None:
        if self._mourned:
            return
        self._mourned = True
        self.log.warning("kernel %s: %s", self.kernel_id, reason)
        if self.parent is not None and self.parent.has_trait("reason"):
            self.parent.reason = reason

    @property
    def _path(self) -> str:
        return "/" + quote(str(self.kernel_id), safe="")

    async def _tell(self, method: str, path: str, body: object = None) -> None:
        """Ask for something whose failure must not stop the manager's own cleaning up."""
        try:
            await self._ask(method, path, body)
        except SpaceError as error:
            self.log.warning("kernel %s: %s", self.kernel_id, error)

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return await asyncio.to_thread(_ask, method, f"/api/space-kernels{path}", body)


def _ask(method: str, path: str, body: object) -> dict[str, Any]:
    """Ask the daemon, started anew if it is gone: its kernels are not."""
    client = SpacesClient(ensure_daemon())
    try:
        return client.request(method, path, body)
    finally:
        client.close()
