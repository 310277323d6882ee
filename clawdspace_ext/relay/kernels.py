"""Every kernel of this user: started, found again after a restart of the daemon, ended when its owner is gone."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import Conflict, NotFound, SpaceError
from ..service import Spaces
from ..spaces import SpaceSpec, check_env
from .kernel import Kernel, KernelState
from .owners import Owner
from .records import KernelRecord, KernelRecords

log = logging.getLogger(__name__)


class Kernels:
    """Kernels by the id that their client gave them; records below ``data_dir``, sockets below ``runtime_dir``."""

    def __init__(self, spaces: Spaces, data_dir: Path, runtime_dir: Path) -> None:
        self._spaces = spaces
        self._records = KernelRecords(data_dir / "kernels")
        self._runtime = runtime_dir / "k"
        self._all: dict[str, Kernel] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        spaces.on_change(self._spaces_changed)

    async def recover(self) -> None:
        """Go on with the kernels of an earlier daemon; those whose owner is gone meanwhile are ended."""
        known = {record.short for record in self._records.all()}
        for folder in self._runtime.glob("*"):
            if folder.name not in known:
                shutil.rmtree(folder)
        for record in self._records.all():
            kernel = await self._add(record)
            kernel.resume()

    async def close(self) -> None:
        """Let go of every kernel; their processes go on."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        for kernel in self._all.values():
            await kernel.close()

    # -- verbs -------------------------------------------------------------------------------------------------------

    async def start(
        self, kernel_id: str, space: str | None, *, owner_pid: int, env: Mapping[str, str], user: str
    ) -> Kernel:
        """Start a kernel in ``space``, or in a throwaway space of its own when that is None.

        For an id that is known, a new process takes the place of the old one, in the same space behind the same
        sockets.  A throwaway space is destroyed with its kernel.  Raises SpaceError; nothing is left behind then.
        """
        check_env(env)
        async with self._locks.setdefault(kernel_id, asyncio.Lock()):
            kernel = self._all.get(kernel_id)
            if kernel is not None:
                return await self._start_again(kernel, space)
            record = KernelRecord(
                id=kernel_id,
                space=space or f"sandbox-{secrets.token_hex(4)}",
                ephemeral=space is None,
                owner=Owner.of(owner_pid),
                env=dict(env),
            )
            return await self._start(record, user)

    def get(self, kernel_id: str) -> Kernel:
        """Return a kernel.  Raises NotFound."""
        kernel = self._all.get(kernel_id)
        if kernel is None:
            raise NotFound(f"there is no kernel {kernel_id}", field="id", remedy="it was shut down; start a new one")
        return kernel

    def list(self, space: str | None = None) -> Sequence[Kernel]:
        """Return the kernels of one space, or of all."""
        return [kernel for kernel in self._all.values() if space in (None, kernel.record.space)]

    async def restart(self, kernel_id: str) -> Kernel:
        """End a kernel's process politely and start another in its place.  Raises NotFound, SpaceError."""
        async with self._locks.setdefault(kernel_id, asyncio.Lock()):
            kernel = self.get(kernel_id)
            await kernel.shutdown(restart=True)
            await kernel.start()
            return kernel

    async def remove(self, kernel_id: str) -> None:
        """End a kernel and forget it; a throwaway space goes with it, files and all.  Raises NotFound."""
        async with self._locks.setdefault(kernel_id, asyncio.Lock()):
            kernel = self.get(kernel_id)
            await self._remove(kernel)

    # -- doing -------------------------------------------------------------------------------------------------------

    async def _add(self, record: KernelRecord) -> Kernel:
        kernel = Kernel(self._spaces, record, self._runtime / record.short)
        await kernel.listen()
        self._all[record.id] = kernel
        self._watchers[record.id] = asyncio.create_task(self._watch(record), name=f"owner of kernel {record.id}")
        return kernel

    async def _start(self, record: KernelRecord, user: str) -> Kernel:
        self._records.save(record)
        try:
            if record.ephemeral:
                await self._spaces.create(record.space, SpaceSpec(), owner=user, ephemeral=True)
            space = await self._spaces.get(record.space)
            record = replace(record, engine=space.engine, memory=space.record.spec.memory)
            self._records.save(record)
            kernel = await self._add(record)
            await kernel.start()
        except (SpaceError, asyncio.CancelledError):
            await asyncio.shield(self._clean_up(record))
            raise
        return kernel

    async def _start_again(self, kernel: Kernel, space: str | None) -> Kernel:
        if space not in (None, kernel.record.space):
            raise Conflict(f"the kernel {kernel.record.id} is in the space {kernel.record.space}", field="space")
        if kernel.state is KernelState.RUNNING:
            await kernel.kill()
        await kernel.start()
        return kernel

    async def _remove(self, kernel: Kernel) -> None:
        if not kernel.record.ephemeral:
            try:
                await kernel.forget()
            except SpaceError as error:
                log.warning("kernel %s: %s", kernel.record.id, error)
        await self._clean_up(kernel.record)

    async def _clean_up(self, record: KernelRecord) -> None:
        """Remove everything that was made for a kernel."""
        watcher = self._watchers.pop(record.id, None)
        if watcher is not None and watcher is not asyncio.current_task():
            watcher.cancel()
        kernel = self._all.pop(record.id, None)
        if kernel is not None:
            await kernel.close()
            shutil.rmtree(self._runtime / record.short)
        if record.ephemeral:
            await self._destroy(record.space)
        self._records.remove(record)
        self._locks.pop(record.id, None)

    async def _destroy(self, throwaway: str) -> None:
        try:
            if (await self._spaces.get(throwaway)).record.ephemeral:
                await self._spaces.destroy(throwaway, remove_volume=True)
        except NotFound:
            pass  # somebody destroyed it before us

    def _spaces_changed(self) -> None:
        for kernel in self._all.values():
            kernel.space_changed.set()

    async def _watch(self, record: KernelRecord) -> None:
        """End the kernel when its owner is gone."""
        await record.owner.gone()
        log.info("kernel %s: its owner (process %d) is gone", record.id, record.owner.pid)
        try:
            await self.remove(record.id)
        except NotFound:
            pass  # it was shut down at the same time
        except SpaceError as error:
            log.warning("kernel %s: %s", record.id, error)
