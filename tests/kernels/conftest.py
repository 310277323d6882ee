"""Kernels in spaces of the real agent, without isolation, and unmodified Jupyter clients."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.kernels import Host, Notebook

from clawdspace_ext.spaces import SpaceSpec


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short name, since sockets lie in it; this Python is the first on PATH."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # with it, ipykernel captures less
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    yield folder
    shutil.rmtree(folder)


@pytest_asyncio.fixture
async def host(home: Path) -> AsyncIterator[Host]:
    """A daemon's insides with one space named dev."""
    host = Host(home)
    await host.begin()
    await host.spaces.create("dev", SpaceSpec(env={"OF_THE_SPACE": "1"}), owner="me")
    yield host
    await host.leave()
    await host.engine.close()


@pytest_asyncio.fixture
async def notebook(host: Host) -> AsyncIterator[Notebook]:
    """A client of a kernel in dev."""
    notebook = await Notebook(await host.kernel()).ready()
    yield notebook
    notebook.close()
