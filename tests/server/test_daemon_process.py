"""Finding, starting, replacing and ending the daemon, with real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawdspace_ext import __version__, daemon_process, daemon_record, daemon_start, paths
from clawdspace_ext.client import SpacesClient
from clawdspace_ext.errors import Unavailable
from clawdspace_ext.spaces import ExecRequest

ENSURE = "from clawdspace_ext.daemon_process import ensure_daemon, running; ensure_daemon(); print(running().pid)"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own, whose daemon and spaces end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
    monkeypatch.setenv("CLAWDSPACE_HOME", str(folder))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/no-docker.sock")
    yield folder
    with connected() as client:
        for space in client.list():
            client.destroy(space.name, remove_volume=True)
    daemon_process.stop()
    shutil.rmtree(folder)


@contextlib.contextmanager
def connected() -> Iterator[SpacesClient]:
    """A client of the daemon, started if need be."""
    with contextlib.closing(SpacesClient(daemon_process.ensure_daemon())) as client:
        yield client


def kill() -> int:
    """Kill the daemon, and return what its number was once it is dead."""
    killed = pid()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: daemon_process.running() is None)
    return killed


def daemons(home: Path) -> list[int]:
    """Return the processes that are daemons of this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ, cmdline = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"CLAWDSPACE_HOME={home}\0".encode() in environ and b"clawdspace_ext.daemon" in cmdline:
            found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def start_version(version: str) -> daemon_process.Daemon:
    """Start a daemon that says it is of another version."""
    lie = f"from clawdspace_ext import version; version.__version__ = {version!r}"
    code = f"{lie}; from clawdspace_ext.daemon import main; main()"
    words = [sys.executable, "-c", code, "--detach", "clawdspace_ext.daemon"]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    wait_until(lambda: daemon_process.running() is not None)
    found = daemon_process.running()
    assert found is not None
    assert found.version == version
    return found


def pid() -> int:
    found = daemon_process.running()
    assert found is not None
    return found.pid


def test_the_first_call_starts_a_daemon_and_the_next_one_finds_it() -> None:
    first = daemon_process.ensure_daemon()
    started = pid()

    assert (daemon_process.ensure_daemon(), pid()) == (first, started)


def test_ten_starters_at_once_leave_one_daemon(home: Path) -> None:
    starters = [subprocess.Popen([sys.executable, "-c", ENSURE], stdout=subprocess.PIPE, text=True) for _ in range(10)]
    told = {starter.communicate(timeout=60)[0].strip() for starter in starters}

    assert [starter.returncode for starter in starters] == [0] * 10
    assert told == {str(found) for found in daemons(home)}
    assert len(told) == 1


def test_a_killed_daemon_is_replaced_at_once_and_its_spaces_go_on(home: Path) -> None:
    with connected() as client:
        client.create("dev")
        client.exec("dev", ExecRequest(("sh", "-c", "echo kept > file; sleep 1000 >/dev/null 2>&1 & echo $! > pid")))
    killed = kill()

    with connected() as client:
        assert pid() != killed
        assert [(space.name, str(space.state)) for space in client.list()] == [("dev", "running")]
        result = client.exec("dev", ExecRequest(("sh", "-c", "cat file; kill -0 $(cat pid) && echo alive")))
        assert result.stdout == b"kept\nalive\n"


def test_a_daemon_killed_again_and_again_is_always_replaced(home: Path) -> None:
    for _ in range(5):
        daemon_process.ensure_daemon()
        kill()

    daemon_process.ensure_daemon()

    assert daemons(home) == [pid()]


def test_stopping_leaves_no_process_and_no_socket(home: Path) -> None:
    socket = daemon_process.ensure_daemon()

    assert daemon_process.stop()
    wait_until(lambda: not daemons(home))
    assert not socket.exists()


def test_stopping_what_does_not_run_is_no_error() -> None:
    assert not daemon_process.stop()
    assert daemon_process.status() is None


def test_a_daemon_that_hangs_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_process, "ANSWER_TIMEOUT", 0.3)
    monkeypatch.setattr(daemon_process, "STOP_TIMEOUT", 1.0)
    daemon_process.ensure_daemon()
    os.kill(pid(), signal.SIGSTOP)

    assert daemon_process.stop()
    assert daemon_process.running() is None


def test_sigterm_ends_the_daemon_quickly_and_leaves_spaces_alone() -> None:
    with connected() as client:
        client.create("dev")
    started = time.monotonic()
    os.kill(pid(), signal.SIGTERM)
    wait_until(lambda: daemon_process.running() is None)

    assert time.monotonic() - started < 2
    with connected() as client:
        assert str(client.get("dev").state) == "running"


def test_a_daemon_that_nobody_needs_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWDSPACE_DAEMON_IDLE_S", "0.1")
    daemon_process.ensure_daemon()

    wait_until(lambda: daemon_process.running() is None)


def test_a_daemon_stays_while_a_space_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWDSPACE_DAEMON_IDLE_S", "0.1")
    with connected() as client:
        client.create("dev")
        started = pid()
        time.sleep(5)

        assert pid() == started
        client.pause("dev")
    wait_until(lambda: daemon_process.running() is None)


def test_a_daemon_whose_socket_was_removed_makes_room_for_one_that_can_be_reached(home: Path) -> None:
    socket = daemon_process.ensure_daemon()
    lost = pid()
    socket.unlink()

    daemon_process.ensure_daemon()

    assert pid() != lost
    assert daemons(home) == [pid()]


def test_a_second_daemon_leaves_the_first_alone() -> None:
    daemon_process.ensure_daemon()
    first = pid()

    second = subprocess.run([sys.executable, "-m", "clawdspace_ext.daemon"], stdout=subprocess.DEVNULL, timeout=20)

    assert second.returncode == 0
    assert pid() == first


def test_an_older_idle_daemon_is_replaced() -> None:
    older = start_version("0.0.1")

    daemon_process.ensure_daemon()

    assert pid() != older.pid
    assert daemon_process.status()["version"] == __version__  # type: ignore[index]  # it runs


def test_an_older_daemon_with_something_in_flight_is_used() -> None:
    older = start_version("0.0.1")
    with contextlib.closing(SpacesClient(older.socket)) as client:
        client.create("dev")
        process = client.open_exec("dev", ExecRequest(("cat",)))
    with process:
        daemon_process.ensure_daemon()
        assert pid() == older.pid
        process.end_stdin()
        assert list(process.output()) == []

    assert process.exit_code == 0


def test_a_newer_daemon_is_used_as_it_is() -> None:
    newer = start_version("99.0")

    assert daemon_process.ensure_daemon() == Path(newer.socket)
    assert pid() == newer.pid


def test_a_daemon_that_cannot_start_tells_why(home: Path) -> None:
    obstacle = paths.data_dir() / "install-id"
    obstacle.mkdir()

    with pytest.raises(Unavailable, match="IsADirectoryError"):
        daemon_process.ensure_daemon()
    obstacle.rmdir()


def test_a_locked_home_without_a_daemon_in_reach_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a home folder shared with another machine whose daemon cannot be reached from here."""
    with monkeypatch.context() as patch, open(paths.lock_path(), "w") as lock:
        patch.setattr(daemon_process, "START_TIMEOUT", 0.5)
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(Unavailable, match="holds"):
            daemon_process.ensure_daemon()


def test_a_scope_that_cannot_be_had_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where systemd runs, and not for this user."""
    monkeypatch.setattr(daemon_start, "_scope", lambda: ["false"])

    assert daemon_process.ensure_daemon().exists()


def test_only_its_user_can_reach_the_socket() -> None:
    socket = daemon_process.ensure_daemon()

    assert [oct(path.stat().st_mode & 0o777) for path in (socket, socket.parent)] == ["0o600", "0o700"]


def test_the_daemon_takes_nothing_over_from_who_starts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.chdir(tmp_path)
    daemon_process.ensure_daemon()

    process = Path(f"/proc/{pid()}")
    assert b"hidden" not in (process / "environ").read_bytes()
    assert (process / "cwd").resolve() == Path("/")
    assert os.getsid(pid()) != os.getsid(0)


def test_only_folders_of_clawdspace_stay_on_the_python_path(tmp_path: Path) -> None:
    (tmp_path / "ours/clawdspace_ext").mkdir(parents=True)
    (tmp_path / "theirs/tornado").mkdir(parents=True)

    clean = daemon_start.environment({"PYTHONPATH": f"{tmp_path}/theirs:{tmp_path}/ours", "PATH": "/bin"})

    assert clean["PYTHONPATH"] == f"{tmp_path}/ours"


def test_the_log_has_times_and_is_shown() -> None:
    daemon_process.ensure_daemon()

    lines = daemon_record.log_tail(1)

    assert lines.startswith(time.strftime("%Y-"))
    assert "listens on" in lines
