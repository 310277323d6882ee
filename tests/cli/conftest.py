"""The command line as its users run it: as a process, against a daemon of its own, with real spaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawdspace_ext import daemon_process
from clawdspace_ext.client import SpacesClient
from support.cli import Cli


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A home for all these tests, whose daemon and spaces end with them."""
    folder = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAWDSPACE_HOME", str(folder))
        patch.setenv("DOCKER_HOST", f"unix://{folder}/no-docker.sock")
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "jupyter"))
        yield folder
        with contextlib.closing(SpacesClient(daemon_process.ensure_daemon())) as client:
            for space in client.list():
                client.destroy(space.name, remove_volume=True)
        daemon_process.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cli(home: Path) -> Cli:
    """The command line in that home."""
    return Cli(dict(os.environ))


@pytest.fixture(scope="session")
def dev(cli: Cli) -> str:
    """The name of a running space."""
    made = cli("create", "dev")
    assert made.returncode == 0, made.stderr
    return "dev"
