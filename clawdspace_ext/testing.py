"""Spaces for tests: the real agent, as a plain process without any isolation.  Never run foreign code in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import Conflict, NotFound, Unavailable
from .protocols import Capabilities, Stream
from .spaces import Death, KeptVolume, Space, SpaceRecord, SpaceSpec, SpaceState, Usage

_BOOT = "import sys; sys.path.insert(0, {!r}); from agent.main import main; main()"


class SocketStream:
    """A ``Stream`` over asyncio's pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return the next bytes."""
        return await self._reader.read(256 * 1024)

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait for room."""
        await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@dataclass
class _Sandbox:
    home: Path
    record: SpaceRecord | None = None
    process: subprocess.Popen[bytes] | None = None
    paused: bool = False
    exit_code: int | None = None

    @property
    def state(self) -> SpaceState:
        if self.process is None or self.process.poll() is not None:
            return SpaceState.STOPPED
        return SpaceState.PAUSED if self.paused else SpaceState.RUNNING


class LocalEngine:
    """An ``Engine`` in memory, below ``home``; its spaces are ordinary processes of this machine."""

    name = "local"

    def __init__(self, home: Path) -> None:
        self._home = home
        self._boxes: dict[str, _Sandbox] = {}
        self._kept: dict[str, KeptVolume] = {}

    async def capabilities(self) -> Capabilities:
        """Enforce nothing."""
        return Capabilities(self.name, "1", "local", ("memory", "cpus", "pids"))

    async def prepare(self, space_id: str, spec: SpaceSpec, *, adopt: str | None = None) -> None:
        """Make the folder."""
        home = self._home / space_id
        if adopt is not None:
            (self._home / adopt).rename(home)
            del self._kept[adopt]
        home.mkdir(parents=True, exist_ok=True)
        self._boxes[space_id] = _Sandbox(home)

    async def claim(self, record: SpaceRecord) -> None:
        """Remember the record."""
        if any(box.record is not None and box.record.name == record.name for box in self._boxes.values()):
            raise Conflict(f"there is a space named {record.name} already", field="name")
        self._boxes[record.id].record = record

    async def list(self) -> Sequence[Space]:
        """Return what is claimed."""
        return [
            Space(box.record, box.state, self.name, "local", not_enforced=("memory", "cpus", "pids"))
            for box in self._boxes.values()
            if box.record is not None
        ]

    async def orphans(self) -> Sequence[str]:
        """Return what is not claimed."""
        return [space_id for space_id, box in self._boxes.items() if box.record is None]

    async def kept(self) -> Sequence[KeptVolume]:
        """Return what was kept."""
        return list(self._kept.values())

    async def start(self, space_id: str) -> None:
        """Start the agent."""
        box = self._boxes[space_id]
        if box.state is not SpaceState.STOPPED:
            return
        address = box.home.parent / f"{space_id}.sock"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(address))
            server.listen(128)
            fd = server.fileno()
            argv = [sys.executable, "-I", "-S", "-c", _BOOT.format(str(Path(__file__).parent))]
            box.process = subprocess.Popen(
                [*argv, "--listen-fd", str(fd), "--workspace", str(box.home)],
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(box.home)},
                start_new_session=True,
            )
            box.paused = False

    async def pause(self, space_id: str) -> None:
        """Stop the agent itself; its children run on, which no test of isolation may rest on."""
        self._signal(space_id, signal.SIGSTOP)
        self._boxes[space_id].paused = True

    async def resume(self, space_id: str) -> None:
        """Let the agent run on."""
        self._signal(space_id, signal.SIGCONT)
        self._boxes[space_id].paused = False

    async def stop(self, space_id: str) -> None:
        """End the agent."""
        box = self._boxes[space_id]
        if box.process is not None:
            self._signal(space_id, signal.SIGCONT)
            self._signal(space_id, signal.SIGTERM)
            box.exit_code = await asyncio.to_thread(box.process.wait, 10)
            box.process = None

    async def destroy(self, space_id: str, *, remove_files: bool) -> None:
        """Forget the sandbox."""
        if space_id not in self._boxes:
            return
        await self.stop(space_id)
        box = self._boxes.pop(space_id)
        if remove_files or box.record is None:
            shutil.rmtree(box.home, ignore_errors=True)
        else:
            record = box.record
            self._kept[space_id] = KeptVolume(record.id, record.name, record.owner, datetime.now(UTC))

    async def remove_kept(self, space_id: str) -> None:
        """Remove kept files."""
        if self._kept.pop(space_id, None) is None:
            raise NotFound(f"no kept files have the id {space_id}")
        shutil.rmtree(self._home / space_id, ignore_errors=True)

    async def dial(self, space_id: str) -> Stream:
        """Connect to the agent."""
        if self._boxes[space_id].state is SpaceState.STOPPED:
            raise Unavailable(f"{space_id} does not run")
        return SocketStream(*await asyncio.open_unix_connection(self._home / f"{space_id}.sock", limit=256 * 1024))

    async def usage(self, space_id: str) -> Usage:
        """Count the agent alone."""
        box = self._boxes[space_id]
        if box.process is None:
            raise NotFound(f"{space_id} does not run")
        fields = Path(f"/proc/{box.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return Usage((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), 0, 1)

    async def death(self, space_id: str) -> Death | None:
        """Tell the exit code."""
        code = self._boxes[space_id].exit_code
        return None if code is None else Death(code, oom=False)

    async def close(self) -> None:
        """End every agent: nothing outlives a test."""
        for space_id in list(self._boxes):
            await self.stop(space_id)

    def _signal(self, space_id: str, number: int) -> None:
        process = self._boxes[space_id].process
        if process is not None and process.poll() is None:
            process.send_signal(number)
