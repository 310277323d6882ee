"""Spaces on the real agent, without isolation and without any engine to install."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from clawdspace_ext.service import Spaces
from clawdspace_ext.testing import LocalEngine


@pytest_asyncio.fixture
async def spaces(tmp_path: Path) -> AsyncIterator[Spaces]:
    """A ``Spaces`` whose engine runs the agent as a plain process."""
    host = Spaces([LocalEngine(tmp_path)])
    await host.begin()
    yield host
    await host.close()
