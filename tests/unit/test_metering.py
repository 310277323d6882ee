"""How busy a space is, and what its control group says of disks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from clawdspace_ext import metering
from clawdspace_ext.engines.blocks import blocks_v1, blocks_v2
from clawdspace_ext.metering import Meter
from clawdspace_ext.spaces import Usage

pytestmark = pytest.mark.asyncio


class Busy:
    """Counters of a space that keeps ``cpus`` busy since it was made."""

    def __init__(self, cpus: float) -> None:
        self._cpus = cpus
        self._since = time.monotonic()

    async def read(self) -> Usage:
        return Usage((time.monotonic() - self._since) * self._cpus, 1, 2, 3)


async def test_the_first_look_is_answered_at_once_and_right() -> None:
    began = time.monotonic()

    stats = await Meter().stats("a", Busy(2).read)

    assert stats.cpu_percent == pytest.approx(200, rel=0.1)
    assert stats.usage.pids == 3
    assert time.monotonic() - began < 0.1


async def test_later_looks_compare_with_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "LIFETIME", 0.15)
    meter, space = Meter(), Busy(0.5)

    for _ in range(8):
        assert (await meter.stats("a", space.read)).cpu_percent == pytest.approx(50, rel=0.1)
        await asyncio.sleep(0.06)


async def test_a_space_started_anew_is_measured_anew() -> None:
    meter = Meter()
    old = Busy(1)
    await asyncio.sleep(0.05)
    await meter.stats("a", old.read)

    assert (await meter.stats("a", Busy(1).read)).cpu_percent == pytest.approx(100, rel=0.1)


async def test_disks_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "blkio.throttle.io_service_bytes").write_text(
        "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n"
    )
    (tmp_path / "io.stat").write_text("8:0 rbytes=5 wbytes=6 rios=1 wios=1\n8:16 rbytes=7 wbytes=8\n253:0 \n")

    assert blocks_v1(tmp_path) == (11, 22)
    assert blocks_v2(tmp_path) == (12, 14)
    assert blocks_v1(tmp_path / "none") == blocks_v2(tmp_path / "none") == (0, 0)
