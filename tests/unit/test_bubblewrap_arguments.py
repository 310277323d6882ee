"""What bubblewrap is told, without running it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clawdspace_ext.engines.bubblewrap.arguments import Descriptors, Plan, bwrap_arguments
from clawdspace_ext.engines.bubblewrap.environment import Python

FDS = Descriptors(status=10, seccomp=11, listen=12, ready=13)
PYTHON = Python(
    version="3.12",
    base=Path("/home/ann/.pyenv/versions/3.12.1"),
    program="python3.12",
    packages=(
        Path("/home/ann/venv/lib/python3.12/site-packages"),
        Path("/home/ann/.pyenv/versions/3.12.1/lib/python3.12/site-packages"),
        Path("/usr/lib/python3/dist-packages"),
    ),
)
FILES = Path("/home/ann/.local/share/clawdspace/spaces/0123")
PLAN = Plan(
    hostname="dev",
    uid=None,
    python=PYTHON,
    agent=Path("/home/ann/venv/lib/python3.12/site-packages/clawdspace_ext/agent"),
    workspace=Path("/home/ann/.local/share/clawdspace/volumes/0123/workspace"),
    layer=FILES / "env-3.12",
    etc=FILES / "etc",
    packages=FILES / "packages",
    tmp_size=1024,
)
BINDS = ("--bind", "--ro-bind", "--ro-bind-try")


def arguments(plan: Plan = PLAN, root: Path = Path("/")) -> list[str]:
    return bwrap_arguments(plan, FDS, root=root)


def binds(plan: Plan = PLAN) -> dict[str, tuple[str, str]]:
    """Return what is mounted where: target -> (kind, source)."""
    found = arguments(plan)
    return {found[i + 2]: (word, found[i + 1]) for i, word in enumerate(found) if word in BINDS}


def command(found: list[str]) -> list[str]:
    return found[found.index("--") + 1 :]


@pytest.mark.parametrize("uid", [None, 200001])
def test_every_namespace_is_new_and_nothing_is_left_of_the_environment(uid: int | None) -> None:
    found = arguments(replace(PLAN, uid=uid))

    for flag in ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"):
        assert flag in found
    for flag in ("--as-pid-1", "--new-session", "--clearenv"):
        assert flag in found
    assert found[found.index("--seccomp") + 1] == "11"
    assert "--die-with-parent" not in found
    assert "--share-net" not in found


def test_as_root_there_is_no_user_namespace_and_the_command_drops_to_the_spaces_uid() -> None:
    found = arguments(replace(PLAN, uid=200001))

    assert not {"--unshare-user", "--unshare-all", "--uid"} & set(found)
    assert found[found.index("--cap-drop") + 1] == "ALL"
    assert command(found)[:5] == ["/usr/bin/setpriv", "--reuid", "200001", "--regid", "200001"]
    assert {"--clear-groups", "--no-new-privs"} <= set(command(found))


def test_an_ordinary_user_needs_no_privileges() -> None:
    found = arguments()

    assert found[found.index("--uid") + 1] == found[found.index("--gid") + 1] == "1001"
    assert {"--unshare-user", "--disable-userns"} <= set(found)
    assert "--cap-add" not in found
    assert command(found)[0] == str(PYTHON.executable)


def test_only_workspace_and_layer_can_be_written() -> None:
    writable = {target: source for target, (kind, source) in binds().items() if kind == "--bind"}

    assert writable == {"/workspace": str(PLAN.workspace), "/opt/env": str(PLAN.layer)}


def test_of_a_home_only_the_interpreter_is_seen_at_its_own_path() -> None:
    assert [target for target in binds() if target.startswith("/home")] == [str(PYTHON.base)]
    assert binds()["/run/clawdspace/site/0"] == ("--ro-bind", str(PYTHON.packages[0]))
    assert "/run/clawdspace/site/1" not in binds()


def test_folders_above_the_interpreter_can_be_entered() -> None:
    found = arguments()
    opened = [found[i + 2] for i, word in enumerate(found) if word == "0755" and found[i + 1] == "--dir"]

    assert [path for path in opened if path.startswith("/home")] == [
        "/home",
        "/home/ann",
        "/home/ann/.pyenv",
        "/home/ann/.pyenv/versions",
    ]


def test_nothing_is_mounted_after_what_the_space_may_write() -> None:
    """A space could have laid links where a later mount point has to be made."""
    found = arguments()
    last = max(i for i, word in enumerate(found) if word in (*BINDS, "--dir", "--symlink", "--tmpfs"))

    assert found[last : last + 3] == ["--bind", str(PLAN.workspace), "/workspace"]


def test_a_system_python_needs_no_mounts() -> None:
    system = Python("3.11", Path("/usr"), "python3.11", (Path("/usr/lib/python3/dist-packages"),))

    assert not [target for target in binds(replace(PLAN, python=system)) if "site" in target or "python" in target]


def test_system_folders_are_links_where_the_host_has_links(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib").mkdir()
    found = " ".join(arguments(root=tmp_path))

    assert "--symlink usr/bin /bin" in found
    assert "--ro-bind /lib /lib" in found
    assert " /sbin" not in found
