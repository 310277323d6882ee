"""The machine's facts, told apart from a container's."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawdspace_ext import machine

GIB = 1024**3


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy of our own making; without files there is no limit."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    return tmp_path


def test_without_a_limit_the_whole_machine_counts(cgroups: Path) -> None:
    whole = machine.memory()

    assert 0 < whole.used < whole.total
    assert machine.cpus() >= 1


def test_a_limit_of_cgroup_v2_counts(cgroups: Path) -> None:
    (cgroups / "memory.max").write_text("134217728\n")
    (cgroups / "memory.current").write_text("100663296\n")
    (cgroups / "memory.stat").write_text("anon 1\ninactive_file 33554432\n")
    (cgroups / "cpu.max").write_text("50000 100000\n")

    assert machine.memory() == (134217728, 67108864)
    assert machine.cpus() == 1


def test_a_limit_of_cgroup_v1_counts(cgroups: Path) -> None:
    (cgroups / "memory").mkdir()
    (cgroups / "cpu").mkdir()
    (cgroups / "memory/memory.limit_in_bytes").write_text("134217728\n")
    (cgroups / "memory/memory.usage_in_bytes").write_text("100663296\n")
    (cgroups / "memory/memory.stat").write_text("inactive_file 1\ntotal_inactive_file 33554432\n")
    (cgroups / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (cgroups / "cpu/cpu.cfs_period_us").write_text("100000\n")

    assert machine.memory() == (134217728, 67108864)
    assert machine.cpus() == 1


def test_no_limit_is_said_in_several_ways(cgroups: Path) -> None:
    whole = machine.memory().total
    (cgroups / "memory.max").write_text("max\n")
    (cgroups / "cpu.max").write_text("max 100000\n")
    assert machine.memory().total == whole

    (cgroups / "memory.max").write_text("9223372036854771712\n")
    assert machine.memory().total == whole
    assert machine.cpus() >= 1


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0"), (1023, "1023"), (1024, "1.0K"), (49 * GIB, "49G"), (1280 * GIB, "1.2T"), (999 * GIB, "999G")],
)
def test_sizes_of_disks_are_written_as_df_does(size: int, text: str) -> None:
    assert machine._short(size) == text


def test_sizes_of_memory_are_written_with_one_digit() -> None:
    assert machine.gigabytes(int(23.46 * GIB)) == "23.5 GB"
