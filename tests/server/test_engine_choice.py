"""Engines are found, missed and found later."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawdspace_ext import engine_choice
from clawdspace_ext.engine_choice import EngineChoice, connected_docker
from clawdspace_ext.errors import Unavailable
from clawdspace_ext.protocols import Engine
from clawdspace_ext.service import Spaces
from clawdspace_ext.testing import LocalEngine


class Machine:
    """Engines that can be switched on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.on: set[str] = set()
        self.looked: list[str] = []

    def finder(self, name: str) -> engine_choice.Finder:
        async def find() -> Engine:
            self.looked.append(name)
            if name not in self.on:
                raise Unavailable(f"{name} is off")
            engine = LocalEngine(self.folder / name)
            engine.name = name
            return engine

        return find


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def choice(machine: Machine) -> tuple[Spaces, EngineChoice]:
    spaces = Spaces([])
    return spaces, EngineChoice(spaces, {name: machine.finder(name) for name in ("docker", "bubblewrap")})


def names(spaces: Spaces) -> list[str]:
    return [engine.name for engine in spaces.engines]


@pytest.mark.asyncio
async def test_the_preferred_engine_is_the_default_however_late_it_answers(machine: Machine) -> None:
    spaces, engines = choice(machine)
    machine.on = {"bubblewrap"}
    await engines.look()
    assert names(spaces) == ["bubblewrap"]

    machine.on = {"docker", "bubblewrap"}
    await engines.look()

    assert names(spaces) == ["docker", "bubblewrap"]


@pytest.mark.asyncio
async def test_an_engine_in_use_is_not_looked_for_again(machine: Machine) -> None:
    _, engines = choice(machine)
    machine.on = {"bubblewrap"}
    await engines.look()
    await engines.look()

    assert machine.looked == ["docker", "bubblewrap", "docker"]


@pytest.mark.asyncio
async def test_why_an_engine_is_missing_can_be_told(machine: Machine) -> None:
    _, engines = choice(machine)
    await engines.look()
    assert engines.reasons == {"docker": "docker is off", "bubblewrap": "bubblewrap is off"}

    machine.on = {"docker"}
    await engines.look()

    assert engines.reasons == {"bubblewrap": "bubblewrap is off"}


@pytest.mark.asyncio
async def test_it_keeps_looking_until_nothing_is_missing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "LOOK_AGAIN", 0.01)
    spaces, engines = choice(machine)
    machine.on = {"docker", "bubblewrap"}

    await engines.keep_looking()

    assert names(spaces) == ["docker", "bubblewrap"]


@pytest.mark.asyncio
async def test_without_an_engine_a_space_cannot_be_made_and_the_remedy_is_told(machine: Machine) -> None:
    from clawdspace_ext.spaces import SpaceSpec

    spaces, engines = choice(machine)
    await engines.look()

    with pytest.raises(Unavailable, match="apt-get install bubblewrap"):
        await spaces.create("dev", SpaceSpec(), owner="me")


@pytest.mark.asyncio
async def test_a_docker_socket_nobody_listens_at_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(Unavailable, match="no Docker engine listens"):
        await connected_docker("id")

    (tmp_path / "docker.sock").touch()
    with pytest.raises(Unavailable):
        await connected_docker("id")
