"""What is remembered of kernels, and of who asked for them."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clawdspace_ext.errors import InvalidRequest
from clawdspace_ext.relay.counter import Counter
from clawdspace_ext.relay.owners import Owner
from clawdspace_ext.relay.records import KernelRecord, KernelRecords

RECORD = KernelRecord("a/../kernel id", "dev", ephemeral=False, owner=Owner(1, 2), env={"A": "b"})


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    KernelRecords(tmp_path / "k").save(RECORD)
    assert list(KernelRecords(tmp_path / "k").all()) == [RECORD]


def test_only_its_user_can_read_a_record(tmp_path: Path) -> None:
    KernelRecords(tmp_path / "k").save(RECORD)
    (path,) = (tmp_path / "k").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 1}', '{"owner": []}'])
def test_a_broken_record_hides_no_other(tmp_path: Path, text: str) -> None:
    records = KernelRecords(tmp_path)
    (tmp_path / "broken.json").write_text(text)
    records.save(RECORD)
    assert list(records.all()) == [RECORD]
    assert (tmp_path / "broken.json").exists()


def test_a_removed_record_is_gone(tmp_path: Path) -> None:
    records = KernelRecords(tmp_path)
    records.save(RECORD)
    records.remove(RECORD)
    records.remove(RECORD)
    assert list(records.all()) == []


def test_every_kernel_has_keys_of_its_own() -> None:
    other = KernelRecord("x", "dev", ephemeral=False, owner=Owner(1, 2))
    assert len({RECORD.key, RECORD.inside_key, other.key, other.inside_key}) == 4


def test_a_counter_survives_a_sudden_death(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\nfrom clawdspace_ext.relay.counter import Counter\n"
        "Counter(pathlib.Path(sys.argv[1])).value = 41; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "n")], check=False, timeout=20)
    counter = Counter(tmp_path / "n")
    assert counter.value == 41
    counter.close()


def test_an_owner_is_not_a_later_process_with_its_number() -> None:
    owner = Owner.of(os.getpid())
    asyncio.run(asyncio.wait_for(Owner(owner.pid, owner.started - 1).gone(), 2))
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(owner.gone(), 0.1))


@pytest.mark.parametrize("reaped", [True, False])
def test_an_owner_is_missed_whether_or_not_its_parent_takes_notice(reaped: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(process.pid)
    process.kill()
    if reaped:
        process.wait()
    asyncio.run(asyncio.wait_for(owner.gone(), 5))
    process.communicate()


def test_an_owner_must_be_a_process_of_this_user() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Owner.of(2**22 - 2)
    assert caught.value.field == "ownerPid"
