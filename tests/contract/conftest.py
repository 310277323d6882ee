"""Both engines, each as an installation of the test's own, and spaces to try them with."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clawdspace_ext.engines.bubblewrap import BubblewrapEngine
from clawdspace_ext.engines.docker import DockerEngine
from clawdspace_ext.link import Link
from clawdspace_ext.processes import start_process
from clawdspace_ext.protocols import Engine, Stream
from clawdspace_ext.spaces import MIB, ExecRequest, ExecResult, Space, SpaceRecord, SpaceSpec
from support.dockerd import NoDocker, shared_dockerd

BuildEngine = Callable[[], Engine]


@pytest.fixture(params=["bubblewrap", pytest.param("docker", marks=pytest.mark.docker)])
def build_engine(request: pytest.FixtureRequest, tmp_path: Path) -> BuildEngine:
    """Makes engine objects of one installation: each is what a daemon started anew would hold."""
    if request.param == "bubblewrap":
        return lambda: BubblewrapEngine("contract-tests", tmp_path / "bubblewrap")
    install_id = secrets.token_hex(8)
    try:
        docker_host = shared_dockerd().host
    except NoDocker as reason:
        pytest.skip(str(reason))
    return lambda: DockerEngine(install_id, docker_host=docker_host)


@pytest_asyncio.fixture
async def engine(build_engine: BuildEngine) -> AsyncIterator[Engine]:
    """An engine that has no spaces, and leaves none."""
    engine = build_engine()
    yield engine
    for space_id in [*(space.id for space in await engine.list()), *await engine.orphans()]:
        await engine.destroy(space_id, remove_files=True)
    for volume in await engine.kept():
        await engine.remove_kept(volume.id)
    await engine.close()


@dataclass
class Trial:
    """A claimed space of a test, with a link of its own that counts how often it dials."""

    engine: Engine
    record: SpaceRecord
    dials: int = 0
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.link = Link(self._dial, self.record.name)

    @property
    def id(self) -> str:
        return self.record.id

    async def run(self, *argv: str, **options: Any) -> ExecResult:
        """Run a program to its end."""

        async def relink() -> Link:
            return self.link

        request = ExecRequest(argv, **options)
        process = await start_process(self.link, secrets.token_hex(8), request, relink, stdin=bool(request.stdin))
        return await process.collect(request.stdin)

    async def sh(self, script: str) -> str:
        """Run a shell script that must succeed, and return what it printed, stripped."""
        result = await self.run("sh", "-c", script)
        assert (result.exit_code, result.stderr) == (0, b"")
        return result.stdout.decode().strip()

    async def look(self) -> Space:
        """Return the space as its engine lists it."""
        return next(space for space in await self.engine.list() if space.id == self.id)

    async def _dial(self) -> Stream:
        self.dials += 1
        return await self.engine.dial(self.id)


MakeSpace = Callable[..., Awaitable[Trial]]


def new_id() -> str:
    return secrets.token_hex(6)


def record_of(space_id: str, name: str, *, owner: str = "ann", **spec: Any) -> SpaceRecord:
    return SpaceRecord(space_id, name, owner, SpaceSpec(**({"memory": 256 * MIB} | spec)), datetime.now(UTC))


@pytest_asyncio.fixture
async def make_space(engine: Engine) -> AsyncIterator[MakeSpace]:
    """Makes spaces, claimed and started; takes a name, fields of the spec, and ``adopt``."""
    made: list[Trial] = []

    async def make(name: str = "dev", *, adopt: str | None = None, start: bool = True, **spec: Any) -> Trial:
        record = record_of(new_id(), name, **spec)
        await engine.prepare(record.id, record.spec, adopt=adopt)
        await engine.claim(record)
        if start:
            await engine.start(record.id)
        made.append(Trial(engine, record))
        return made[-1]

    yield make
    for trial in made:
        await trial.link.close()
