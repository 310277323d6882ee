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

from clawdspace_ext.spaces import SpaceSpec
from clawdspace_kernels.specs import RESOURCES, KernelSpecs
from support.kernels import Host, Notebook, kernel_daemon


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


@pytest.fixture
def daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A daemon with a space named dev and the kernel specs "clawdspace" and "clawdspace-dev"."""
    monkeypatch.setenv("CLAWDSPACE_HOME", str(home))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(home / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / "jupyter-run"))
    KernelSpecs(home / "jupyter", "this").sync(["dev"])
    (home / "jupyter" / "kernels" / "clawdspace").symlink_to(RESOURCES)
    with kernel_daemon(home) as host:
        yield host
