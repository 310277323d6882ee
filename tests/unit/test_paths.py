"""Where things are kept, and what is refused as a place for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawdspace_ext import paths
from clawdspace_ext.errors import Unavailable


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CLAWDSPACE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    made = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def test_home_moves_data_and_log_below_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLAWDSPACE_HOME", str(tmp_path / "moved"))

    assert [paths.data_dir(), paths.log_dir()] == [tmp_path / "moved/data", tmp_path / "moved/log"]


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The daemon works in another folder than the one who started it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLAWDSPACE_HOME", "here")

    assert paths.data_dir() == tmp_path / "here/data"


def test_a_short_home_holds_the_sockets(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    monkeypatch.setenv("CLAWDSPACE_HOME", str(short_dir))

    assert paths.socket_path() == short_dir / "run/daemon.sock"


def test_a_long_home_gets_a_short_folder_of_its_own_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    for name in ("a" * 90, "b" * 90, "a" * 90):
        monkeypatch.setenv("CLAWDSPACE_HOME", str(tmp_path / name))
        found.append(paths.runtime_dir())

    assert found[0] == found[2] != found[1]
    assert all(len(str(path)) <= paths.MAX_RUNTIME_DIR for path in found)
    for path in set(found):
        path.rmdir()


def test_without_home_the_xdg_folders_are_used(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(short_dir / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(short_dir / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))

    assert paths.data_dir() == short_dir / "data/clawdspace"
    assert paths.log_path() == short_dir / "state/clawdspace/daemon.log"
    assert paths.runtime_dir().parent == short_dir


def test_two_data_folders_never_share_sockets(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    """As after sudo, where the user changes and the session's variables may not."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    first = paths.runtime_dir()
    monkeypatch.setenv("HOME", str(short_dir / "other"))

    assert paths.runtime_dir() != first


def test_a_runtime_folder_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """After su the variable still names the other user's."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/1")

    found = paths.runtime_dir()

    assert Path("/proc") not in found.parents
    found.rmdir()


def test_relative_xdg_folders_are_ignored_as_their_specification_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "relative")

    assert paths.data_dir() == tmp_path / ".local/share/clawdspace"


def test_a_new_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = paths.private_dir(tmp_path / "deep/er")
    finally:
        os.umask(before)

    assert made.stat().st_mode & 0o777 == 0o700


def test_a_folder_others_may_read_is_tightened(tmp_path: Path) -> None:
    readable = tmp_path / "readable"
    readable.mkdir(mode=0o755)

    assert paths.private_dir(readable).stat().st_mode & 0o777 == 0o700


def test_a_folder_others_may_write_to_is_refused(tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    planted.chmod(0o777)

    with pytest.raises(Unavailable, match="other users can write"):
        paths.private_dir(planted)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")

    with pytest.raises(Unavailable, match="not a folder"):
        paths.private_dir(tmp_path / "link")


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")

    with pytest.raises(Unavailable):
        paths.private_dir(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 12345, 12345)

    with pytest.raises(Unavailable, match="belongs to user 12345"):
        paths.private_dir(foreign)


def test_a_file_in_the_way_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable, match="CLAWDSPACE_HOME"):
        paths.private_dir(tmp_path / "file/below")
