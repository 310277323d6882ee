"""A host in memory: its spaces are records, its commands this machine's programs.  Never run foreign code in it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from clawdspace_ext.errors import Conflict, NotFound, Refused
from clawdspace_ext.protocols import Capabilities
from clawdspace_ext.spaces import (
    TRANSITIONS,
    ExecRequest,
    ExecResult,
    KeptVolume,
    Space,
    SpaceRecord,
    SpaceSpec,
    SpaceState,
    check_name,
)


class FakeEngine:
    """What a host says of its engine."""

    name = "fake"

    async def capabilities(self) -> Capabilities:
        return Capabilities("fake", "1", "fake:latest", ("memory",), {"images": "3"})


class FakeProcess:
    """A ``Process`` that is a child of this one, its stderr apart from its stdout."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.id = secrets.token_hex(6)
        self.exit_code: int | None = None
        self.exit_signal: int | None = None
        self.timed_out = False
        self.lost: dict[int, int] = {}
        self.sizes: list[tuple[int, int]] = []
        self.detached = False
        self._process = process

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        chunks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(2)
        streams = ((1, self._process.stdout), (2, self._process.stderr))
        readers = [asyncio.create_task(self._read(channel, stream, chunks)) for channel, stream in streams]
        try:
            open_streams = len(readers)
            while open_streams:
                channel, data = await chunks.get()
                if data:
                    yield channel, data
                else:
                    open_streams -= 1
            code = await self._process.wait()
            self.exit_signal = -code if code < 0 else None
            self.exit_code = 128 - code if code < 0 else code
        finally:
            for reader in readers:
                reader.cancel()

    @staticmethod
    async def _read(channel: int, stream: Any, chunks: asyncio.Queue[tuple[int, bytes]]) -> None:
        while data := await stream.read(32 * 1024):
            await chunks.put((channel, data))
        await chunks.put((channel, b""))

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it reads no more

    def end_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass  # it has ended

    def resize(self, cols: int, rows: int) -> None:
        self.sizes.append((cols, rows))

    def detach(self) -> None:
        self.detached = True


class FakeHost:
    """Satisfies ``SpaceHost`` and what else the routes ask of a host.  ``calls`` lists the verbs that did something."""

    def __init__(self) -> None:
        self.spaces: dict[str, Space] = {}
        self.volumes: dict[str, KeptVolume] = {}
        self.calls: list[str] = []
        self.processes: list[FakeProcess] = []
        self.last_exec: ExecRequest | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    engines = (FakeEngine(),)

    async def create(
        self, name: str, spec: SpaceSpec, *, owner: str, adopt_volume: bool = False, engine: str | None = None
    ) -> Space:
        await self.gate.wait()
        self.calls.append(f"create {name}")
        if check_name(name) in self.spaces:
            raise Conflict(f"there is a space named {name} already", field="name", remedy="choose another name")
        if adopt_volume and not any(volume.name == name for volume in self.volumes.values()):
            raise NotFound(f"no files were kept of a space named {name}", field="adoptVolume")
        now = datetime.now(UTC)
        record = SpaceRecord(secrets.token_hex(6), name, owner, spec, now)
        image = spec.image or "fake:latest"
        space = Space(record, SpaceState.RUNNING, engine or "fake", image, now, ("memory",), now)
        self.spaces[name] = space
        return space

    async def list(self) -> Sequence[Space]:
        return [self.spaces[name] for name in sorted(self.spaces)]

    async def get(self, name: str) -> Space:
        if name not in self.spaces:
            raise NotFound(f"there is no space named {name}", field="name", remedy="`clawdspace list` shows all")
        return self.spaces[name]

    async def start(self, name: str) -> Space:
        return await self._change("start", name)

    async def pause(self, name: str) -> Space:
        return await self._change("pause", name)

    async def stop(self, name: str) -> Space:
        return await self._change("stop", name)

    async def destroy(self, name: str, *, remove_volume: bool = False) -> None:
        space = await self.get(name)
        self.calls.append(f"destroy {name} {remove_volume}")
        del self.spaces[name]
        if not remove_volume:
            self.volumes[space.id] = KeptVolume(space.id, name, space.record.owner, datetime.now(UTC))

    async def exec(self, name: str, request: ExecRequest) -> ExecResult:
        await self._change("start", name)
        await self.gate.wait()
        self.calls.append(f"exec {name}")
        self.last_exec = request
        if request.argv == ("true",):
            return ExecResult(b"", b"", 0, 0.0)
        started = time.monotonic()
        process = await self._spawn(request)
        timer = asyncio.get_running_loop().call_later(request.timeout or 3600, process.signal, signal.SIGKILL)
        await process.write(request.stdin)
        process.end_stdin()
        written = {1: b"", 2: b""}
        async for channel, data in process.output():
            written[channel] += data
        timed_out = timer.when() <= asyncio.get_running_loop().time()
        timer.cancel()
        code = process.exit_code
        assert code is not None
        return ExecResult(written[1], written[2], code, time.monotonic() - started, process.exit_signal, timed_out)

    async def open_exec(self, name: str, request: ExecRequest) -> FakeProcess:
        await self._change("start", name)
        self.calls.append(f"open_exec {name}")
        self.last_exec = request
        process = await self._spawn(request)
        self.processes.append(process)
        return process

    async def kept(self) -> Sequence[KeptVolume]:
        return list(self.volumes.values())

    async def remove_kept(self, space_id: str) -> None:
        if self.volumes.pop(space_id, None) is None:
            raise NotFound(f"no kept files have the id {space_id}")
        self.calls.append(f"remove_kept {space_id}")

    async def _change(self, verb: str, name: str) -> Space:
        space = await self.get(name)
        state = TRANSITIONS[verb][space.state]
        if state is not space.state:
            self.calls.append(f"{verb} {name}")
        self.spaces[name] = replace(space, state=state)
        return self.spaces[name]

    @staticmethod
    async def _spawn(request: ExecRequest) -> FakeProcess:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *request.argv,
                env={**os.environ, **request.env},
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
        except OSError as error:
            raise Refused(f"cannot run {request.argv[0]}: {error.strerror}", reason="not_found") from error
        return FakeProcess(process)
