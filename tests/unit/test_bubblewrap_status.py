"""The file that tells about a launch, and the process it means."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clawdspace_ext.engines.bubblewrap import status
from clawdspace_ext.engines.bubblewrap.processes import boot_id, main_process, start_time
from clawdspace_ext.engines.bubblewrap.status import Status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def status_of(child: subprocess.Popen[bytes]) -> Status:
    namespace = Path(f"/proc/{child.pid}/ns/pid").stat().st_ino
    return Status(boot_id(), NOW, child.pid, namespace, start_time(child.pid))


def lives(launched: Status | None) -> bool:
    with main_process(launched) as main:
        return main is not None


def test_what_engine_and_monitor_wrote_is_one_launch(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert status.read(path) is None
    status.begin(path, "boot", NOW)
    assert status.read(path) == Status("boot", NOW)
    with path.open("a") as monitor:
        monitor.write('{ "child-pid": 7, "pid-namespace": 8 }\n')
    status.add(path, **{"start-time": 9})
    assert status.read(path) == Status("boot", NOW, 7, 8, 9)
    with path.open("a") as monitor:
        monitor.write('{ "exit-code": 137 }\n')
    status.add(path, oom=True)
    assert status.read(path) == Status("boot", NOW, 7, 8, 9, 137, oom=True)


def test_a_line_that_is_half_written_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status.begin(path, "boot", NOW)
    with path.open("a") as monitor:
        monitor.write('{ "child-pid": 7, "pid-na')

    assert status.read(path) == Status("boot", NOW)


def test_a_new_launch_forgets_the_last(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status.begin(path, "boot", NOW)
    status.add(path, oom=True)
    status.begin(path, "another", NOW)

    assert status.read(path) == Status("another", NOW)


def test_a_living_process_is_found(child: subprocess.Popen[bytes]) -> None:
    assert lives(status_of(child))
    assert lives(replace(status_of(child), start_time=None))


def test_another_process_of_the_same_pid_is_not_taken_for_it(child: subprocess.Popen[bytes]) -> None:
    launched = status_of(child)
    assert launched.start_time is not None
    assert launched.namespace is not None

    assert not lives(replace(launched, start_time=launched.start_time - 1))
    assert not lives(replace(launched, start_time=None, namespace=launched.namespace + 1))


def test_nothing_lives_on_over_a_reboot(child: subprocess.Popen[bytes]) -> None:
    assert not lives(replace(status_of(child), boot="another"))


def test_a_process_that_has_ended_is_not_found_even_while_nobody_collects_it(child: subprocess.Popen[bytes]) -> None:
    launched = status_of(child)
    with main_process(launched) as main:
        assert main is not None
        assert not main.wait(0)
        main.signal(signal.SIGKILL)
        assert main.wait(5)
        assert not lives(launched)
        child.wait()
        main.signal(signal.SIGKILL)
    assert not lives(launched)


def test_before_the_first_launch_nothing_lives() -> None:
    assert not lives(None)
    assert not lives(Status(boot_id(), NOW))
