"""Control groups, over folders that look like them; the contract tests use the real ones."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from clawdspace_ext.engines.bubblewrap.cgroup_discovery import own_group, read_mounts
from clawdspace_ext.engines.bubblewrap.cgroup_v1 import GroupV1, find_v1
from clawdspace_ext.engines.bubblewrap.cgroup_v2 import GroupV2, find_v2
from clawdspace_ext.engines.bubblewrap.processes import Counters
from clawdspace_ext.errors import Unavailable
from clawdspace_ext.spaces import GIB, MIB

HYBRID = """\
proc /proc proc rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
"""


def write(folder: Path, **files: str) -> Path:
    """Make a folder that looks like a control group; ``__`` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def read(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text() for name in names]


def nothing() -> None:
    """Stand for what a hierarchy does before it has another group."""


def delegated(folder: Path, controllers: str = "cpu memory pids") -> Path:
    return write(folder, cgroup__procs="", cgroup__subtree_control="", cgroup__controllers=controllers)


def test_mounts_are_found_by_controller() -> None:
    found = read_mounts(HYBRID)

    assert found.v2 == Path("/sys/fs/cgroup/unified")
    assert found.v1["memory"] == Path("/sys/fs/cgroup/memory")
    assert found.v1["cpu"] == found.v1["cpuacct"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert read_mounts("proc /proc proc rw 0 0\n").v2 is None


def test_the_own_group_is_read_among_those_of_version_1() -> None:
    assert own_group("9:memory:/a\n0::/user.slice/session\n") == "/user.slice/session"
    assert own_group("9:memory:/a\n") == "/"


# -- version 1 -------------------------------------------------------------------------------------------------------


def test_version_1_enforces_what_is_mounted_and_ours(tmp_path: Path) -> None:
    mounts = {name: write(tmp_path / name) for name in ("memory", "pids", "freezer")}
    write(tmp_path / "file-in-the-way")
    mounts["pids"] = tmp_path / "file-in-the-way" / "pids"
    (tmp_path / "file-in-the-way" / "pids").touch()
    found = find_v1(mounts, "clawdspace/1234")

    assert found is not None
    assert found.enforces == {"memory"}
    assert (tmp_path / "memory/clawdspace/1234").is_dir()
    assert find_v1({}, "clawdspace/1234") is None


def test_version_1_leaves_nothing_when_no_space_is_left(tmp_path: Path) -> None:
    mounts = {name: write(tmp_path / name) for name in ("memory", "pids")}
    found = find_v1(mounts, "clawdspace/1234")
    assert found is not None
    group = found.group("0123")
    group.create()
    found.release()
    assert len(list(tmp_path.glob("*/clawdspace/1234/0123"))) == 2

    group.remove()
    found.release()
    assert list(tmp_path.glob("*/clawdspace/1234")) == []
    group.create()
    assert len(list(tmp_path.glob("*/clawdspace/1234/0123"))) == 2


def test_version_1_joins_controllers_mounted_together_once(tmp_path: Path) -> None:
    group = GroupV1({"cpu": tmp_path / "a", "cpuacct": tmp_path / "a", "memory": tmp_path / "b"})
    group.create()

    assert group.joins == [tmp_path / "a/cgroup.procs", tmp_path / "b/cgroup.procs"]
    assert not group.freezes
    group.remove()
    group.remove()
    assert list(tmp_path.iterdir()) == []


def test_version_1_limits_memory_and_swap_together(tmp_path: Path) -> None:
    folder = write(tmp_path, memory__limit_in_bytes="9223372036854771712", memory__memsw__limit_in_bytes="")
    group = GroupV1(dict.fromkeys(("memory", "cpu", "pids"), folder))
    group.limit(256 * MIB, 1.5)

    assert read(folder, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes") == [str(256 * MIB)] * 2
    assert read(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us", "pids.max") == ["150000", "100000", "512"]


def test_version_1_counts(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        memory__usage_in_bytes="1000",
        memory__stat="cache 5\ntotal_inactive_file 300\n",
        cpuacct__usage="2500000000",
        pids__current="3",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    )
    group = GroupV1(dict.fromkeys(("memory", "cpuacct", "pids"), folder))

    assert group.counters() == Counters(2.5, 700, 3)
    assert group.oom_kills() == 2
    assert GroupV1({"memory": folder}).counters() is None
    assert GroupV1({"freezer": folder}).oom_kills() == 0


def test_a_group_that_does_not_freeze_is_thawed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawdspace_ext.engines.bubblewrap.cgroups._FREEZE_SECONDS", 0.05)
    group = GroupV2(write(tmp_path, cgroup__events="populated 1\nfrozen 0\n"), (), nothing)
    with pytest.raises(Unavailable):
        group.freeze()

    assert read(tmp_path, "cgroup.freeze") == ["0"]


# -- version 2 -------------------------------------------------------------------------------------------------------


def test_version_2_hands_controllers_down_to_its_spaces(tmp_path: Path) -> None:
    delegated(tmp_path)
    for name in ("clawdspace", "clawdspace/1234"):
        delegated(tmp_path / name)
    found = find_v2(tmp_path, "/", "clawdspace/1234")

    assert found is not None
    # The folders of this test hold what was written last, not what was added up.
    for name in (".", "clawdspace", "clawdspace/1234"):
        assert read(tmp_path / name, "cgroup.subtree_control") == ["+pids"]

    (tmp_path / "clawdspace/cgroup.subtree_control").write_text("")
    found.group("0123").create()
    assert read(tmp_path / "clawdspace", "cgroup.subtree_control") == ["+pids"]
    assert (tmp_path / "clawdspace/1234/0123").is_dir()


def test_version_2_starts_from_the_outermost_group_that_was_delegated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "user.slice/user@1.service/app.slice/daemon.scope"
    for name in (".", "user.slice", "user.slice/user@1.service", "user.slice/user@1.service/app.slice", own):
        delegated(tmp_path / name)
    delegated(tmp_path / "user.slice/user@1.service/clawdspace")
    monkeypatch.setattr("os.access", lambda path, mode: "user@1.service" in str(path))
    found = find_v2(tmp_path, f"/{own}", "clawdspace")

    assert found is not None
    assert found.group("0123").joins == (tmp_path / "user.slice/user@1.service/clawdspace/0123/cgroup.procs",)


def test_version_2_without_delegation_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delegated(tmp_path / "user.slice")
    delegated(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)

    assert find_v2(tmp_path, "/user.slice", "clawdspace") is None


def test_version_2_limits_what_it_has(tmp_path: Path) -> None:
    folder = write(tmp_path, memory__swap__max="max")
    GroupV2(folder, ("memory", "cpu", "pids"), nothing).limit(GIB, 0.5)

    assert read(folder, "memory.max", "memory.swap.max") == [str(GIB), "0"]
    assert read(folder, "cpu.max", "pids.max") == ["50000 100000", "512"]

    bare = write(tmp_path / "bare")
    GroupV2(bare, (), nothing).limit(GIB, 0.5)
    assert list(bare.iterdir()) == []


def test_version_2_counts(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        memory__current="1000",
        memory__stat="anon 1\ninactive_file 300\n",
        cpu__stat="usage_usec 2500000\nuser_usec 1\n",
        pids__current="3",
        memory__events="oom 1\noom_kill 2\n",
    )
    group = GroupV2(folder, ("memory", "pids"), nothing)

    assert group.counters() == Counters(2.5, 700, 3)
    assert group.oom_kills() == 2
    assert GroupV2(folder, (), nothing).counters() is None


def test_a_group_is_removed_when_its_last_member_is_gone(tmp_path: Path) -> None:
    folder = write(tmp_path / "group", member="")
    leaving = threading.Timer(0.1, (folder / "member").unlink)
    leaving.start()
    began = time.monotonic()
    GroupV2(folder, (), nothing).remove()

    assert not folder.exists()
    assert time.monotonic() - began >= 0.09
