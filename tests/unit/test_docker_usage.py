"""Counters read from cgroup files laid out as kernels lay them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawdspace_ext.engines.docker.usage import from_cgroup
from clawdspace_ext.spaces import GIB, Usage

DOCKER_ID = "c0ffee" * 10
V1 = f"9:memory:/docker/{DOCKER_ID}\n5:cpu,cpuacct:/docker/{DOCKER_ID}\n3:pids:/docker/{DOCKER_ID}\n0::/\n"
V2 = f"0::/system.slice/docker-{DOCKER_ID}.scope\n"


def lay_out(root: Path, membership: str, files: dict[str, str]) -> None:
    """Write the cgroup membership of process 42, and files below the cgroups' root."""
    for name, text in {
        "proc/42/cgroup": membership,
        **{f"cgroup/{name}": text for name, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def read(root: Path) -> Usage | None:
    return from_cgroup(42, DOCKER_ID, proc=root / "proc", cgroups=root / "cgroup")


@pytest.mark.parametrize(("limit", "expected"), [(str(GIB), GIB), ("max", 0)])
def test_a_cgroup_of_version_2_is_read(tmp_path: Path, limit: str, expected: int) -> None:
    folder = f"system.slice/docker-{DOCKER_ID}.scope"
    files = {
        "memory.current": "3000\n",
        "memory.stat": "anon 1\ninactive_file 1000\n",
        "memory.max": f"{limit}\n",
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        "pids.current": "7\n",
    }
    lay_out(tmp_path, V2, {f"{folder}/{name}": text for name, text in files.items()})

    assert read(tmp_path) == Usage(2.5, 2000, expected, 7)


@pytest.mark.parametrize(("limit", "expected"), [(str(GIB), GIB), ("9223372036854771712", 0)])
def test_cgroups_of_version_1_are_read(tmp_path: Path, limit: str, expected: int) -> None:
    folder = f"docker/{DOCKER_ID}"
    files = {
        f"memory/{folder}/memory.usage_in_bytes": "3000\n",
        f"memory/{folder}/memory.stat": "cache 1\ntotal_inactive_file 1000\n",
        f"memory/{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"cpuacct/{folder}/cpuacct.usage": "2500000000\n",
        f"pids/{folder}/pids.current": "7\n",
    }
    lay_out(tmp_path, V1, files)

    assert read(tmp_path) == Usage(2.5, 2000, expected, 7)


@pytest.mark.parametrize("membership", [V1.replace("c0ffee", "facade"), V2.replace("c0ffee", "facade"), "0::/\n", ""])
def test_a_process_that_is_not_the_containers_is_not_read(tmp_path: Path, membership: str) -> None:
    """With an engine on another machine, the pid it tells is somebody else's here."""
    lay_out(tmp_path, membership, {})

    assert read(tmp_path) is None


def test_a_cgroup_that_has_just_gone_is_not_read(tmp_path: Path) -> None:
    lay_out(tmp_path, V2, {})

    assert read(tmp_path) is None
    assert from_cgroup(43, DOCKER_ID, proc=tmp_path / "proc") is None
