"""The engine's files, and what a crash may leave of them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from clawdspace_ext.engines.bubblewrap.records import read_prepared, read_record, write_record
from clawdspace_ext.engines.bubblewrap.store import Store
from clawdspace_ext.errors import Broken, NotFound
from clawdspace_ext.spaces import Network, SpaceRecord, SpaceSpec

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

ONE, TWO, THREE = "000000000001", "000000000002", "000000000003"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home, None)


def record(space_id: str, name: str = "dev", **fields: Any) -> SpaceRecord:
    return SpaceRecord(space_id, name, "ann", SpaceSpec(**fields), datetime(2026, 1, 2, tzinfo=UTC))


def claimed(store: Store, space_id: str, name: str = "dev", adopt: str | None = None) -> Path:
    """Make a space and return its workspace."""
    store.create(space_id, SpaceSpec(), adopt)
    store.claim(record(space_id, name))
    return store.workspace(store.prepared(space_id).volume)


def test_a_record_is_read_as_it_was_written() -> None:
    env = MappingProxyType({"A": "ä\n"})
    written = record(ONE, image="host", memory=64 << 20, cpus=0.5, env=env, require_limits=True)

    assert read_record(write_record(written)) == written


def test_a_record_that_names_no_network_has_none() -> None:
    fields = json.loads(write_record(record(ONE)))
    del fields["spec"]["network"]

    assert read_record(json.dumps(fields).encode()).spec.network is Network.NONE


@pytest.mark.parametrize("change", [{"schema": 99}, {"name": None}, {"created": "yesterday"}, {"spec": {"memory": 1}}])
def test_a_damaged_record_is_no_record(change: dict[str, Any]) -> None:
    fields = json.loads(write_record(record(ONE)))
    fields |= change
    if change == {"name": None}:
        del fields["name"]
    with pytest.raises(Broken):
        read_record(json.dumps(fields).encode())
    with pytest.raises(Broken):
        read_prepared(b"[]")


def test_what_is_no_id_names_no_folder(store: Store) -> None:
    for bad in ("", "..", "../../etc", "0" * 13, "00000000000g", "00000000000\n"):
        with pytest.raises(NotFound):
            store.folder(bad)


def test_only_we_can_enter_the_folders(store: Store, home: Path) -> None:
    claimed(store, ONE)

    for folder in (home, home / "spaces", home / "volumes", home / "spaces" / ONE, home / "volumes" / ONE):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_crash_before_the_record_leaves_an_orphan(store: Store) -> None:
    store.create(ONE, SpaceSpec(), None)

    assert store.records() == []
    assert store.unclaimed() == [ONE]
    store.remove(ONE, remove_files=False)
    assert store.unclaimed() == []
    assert store.kept() == {}


def test_a_crash_while_making_leaves_rubbish_that_is_swept(store: Store, home: Path) -> None:
    claimed(store, ONE)
    (home / "volumes" / TWO / "workspace").mkdir(parents=True)
    (home / "volumes" / ".rubbish-1" / "workspace").mkdir(parents=True)
    (home / "spaces" / ".rubbish-2").mkdir()

    assert store.unclaimed() == []
    assert [path.name for path in (home / "volumes").iterdir()] == [ONE]
    assert store.unclaimed() == []
    assert [path.name for path in (home / "spaces").iterdir()] == [ONE]


def test_a_crash_while_removing_keeps_the_files(store: Store, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (claimed(store, ONE) / "file").write_text("precious")

    def crash(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clawdspace_ext.engines.bubblewrap.store.delete", crash)
        with pytest.raises(KeyboardInterrupt):
            store.remove(ONE, remove_files=False)

    again = Store(home, None)
    assert again.records() == []
    assert again.unclaimed() == []
    assert [(kept.id, kept.name) for kept in again.kept().values()] == [(ONE, "dev")]
    assert (claimed(again, TWO, adopt=ONE) / "file").read_text() == "precious"


def test_a_damaged_record_is_reported_and_nothing_is_removed_for_it(
    store: Store, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    claimed(store, ONE, "one")
    claimed(store, TWO, "two")
    (home / "spaces" / ONE / "record.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert [known.id for known in Store(home, None).records()] == [TWO]

    assert ONE in caplog.text
    assert Store(home, None).unclaimed() == []


def test_two_stores_agree_on_who_has_a_name(home: Path) -> None:
    claimed(Store(home, None), ONE)
    other = Store(home, None)
    other.create(TWO, SpaceSpec(), None)
    with pytest.raises(Exception, match="named dev"):
        other.claim(record(TWO))


def test_files_as_deep_and_as_closed_as_a_space_can_make_them_are_removed(store: Store) -> None:
    workspace = claimed(store, ONE)
    script = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\nos.mkdir('closed'); os.chmod('closed', 0)"
    subprocess.run(["python3", "-c", script], cwd=workspace, check=True)
    (workspace / "link").symlink_to(workspace.parent.parent.parent)
    store.remove(ONE, remove_files=True)

    assert store.unclaimed() == []
    assert not workspace.exists()
    assert (workspace.parent.parent.parent / "spaces").exists()


@as_root
def test_every_space_has_a_user_id_of_its_own_and_files_keep_theirs(home: Path) -> None:
    store = Store(home, 200_001)
    owners = [claimed(store, space_id, space_id).stat().st_uid for space_id in (ONE, TWO)]
    assert owners == [200_001, 200_002]

    store.remove(ONE, remove_files=False)
    assert claimed(store, THREE, "three").stat().st_uid == 200_003
    assert claimed(store, ONE, "heir", adopt=ONE).stat().st_uid == 200_001

    store.remove(TWO, remove_files=True)
    assert claimed(store, TWO, "again").stat().st_uid == 200_002
