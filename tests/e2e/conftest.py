"""The whole product from the outside: a daemon of its own per test, over each engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clawdspace_ext import daemon_process
from support.dockerd import NoDocker, shared_dockerd
from support.home import Home


@pytest.fixture(params=["bubblewrap", pytest.param("docker", marks=pytest.mark.docker)])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An installation whose default engine is the parameter's."""
    if request.param == "docker":
        try:
            monkeypatch.setenv("DOCKER_HOST", shared_dockerd().host)
        except NoDocker as reason:
            pytest.skip(f"no Docker engine: {reason}")
    else:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-docker.sock")
    monkeypatch.setenv("CLAWDSPACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter-run"))
    home = Home(tmp_path, request.param)
    yield home
    client = home.client()
    for space in client.list():
        client.destroy(space.name, remove_volume=True)
    for volume in client.kept():
        client.remove_kept(volume.id)
    client.close()
    daemon_process.stop()
