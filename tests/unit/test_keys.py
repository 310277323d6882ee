"""Named keys: shown once, kept as hashes, gone when removed."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from clawdspace_ext.errors import Broken, Conflict, InvalidRequest, NotFound
from clawdspace_ext.keys import PREFIX, KeyStore


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json")


def test_a_key_is_known_by_its_name_until_it_is_removed(store: KeyStore) -> None:
    key = store.create("ci")

    found = store.verify(key)
    assert found is not None
    assert (found.name, found.user) == ("ci", "key:ci")

    store.remove("ci")
    assert store.verify(key) is None


def test_no_other_key_is_known(store: KeyStore) -> None:
    key = store.create("ci")

    for wrong in ("", PREFIX, key[:-1], key + "x", key.upper(), "\ud800"):
        assert store.verify(wrong) is None


def test_the_file_is_private_and_holds_no_key(store: KeyStore, tmp_path: Path) -> None:
    key = store.create("ci")
    path = tmp_path / "keys.json"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert key.removeprefix(PREFIX) not in path.read_text()


def test_another_process_sees_a_change_at_once(store: KeyStore, tmp_path: Path) -> None:
    other = KeyStore(tmp_path / "keys.json")
    key = store.create("ci")
    assert other.verify(key) is not None

    store.remove("ci")
    assert other.verify(key) is None


def test_names_are_listed_and_taken_once(store: KeyStore) -> None:
    for name in ("zoe", "ci"):
        store.create(name)

    assert [key.name for key in store.list()] == ["ci", "zoe"]
    with pytest.raises(Conflict):
        store.create("ci")
    with pytest.raises(NotFound):
        store.remove("nobody")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 49, "é", "a\n"])
def test_what_cannot_name_a_key_is_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store.create(name)


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    def make(number: int) -> None:
        KeyStore(tmp_path / "keys.json").create(f"k{number}")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(KeyStore(tmp_path / "keys.json").list()) == 8


def test_a_damaged_file_lets_nobody_in(store: KeyStore, tmp_path: Path) -> None:
    for content in ("", "{}", '{"keys": [{"name": "ci"}]}', "[]"):
        (tmp_path / "keys.json").write_text(content)
        with pytest.raises(Broken):
            KeyStore(tmp_path / "keys.json").verify("csk_x")
