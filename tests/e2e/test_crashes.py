"""What survives the death of the daemon and of connectors."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from clawdspace_ext.errors import SpaceError
from clawdspace_ext.spaces import MIB, ExecRequest, SpaceSpec, SpaceState
from support.home import Home

SPEC = SpaceSpec(memory=512 * MIB)
TRANSFER = 200_000_000


def sh(script: str) -> ExecRequest:
    return ExecRequest(("sh", "-c", script))


def test_the_daemon_killed_under_commands_and_kernels_loses_nothing(home: Home) -> None:
    client = home.client()
    for name in ("awake", "asleep", "at-rest"):
        client.create(name, SPEC)
    made = client.exec("awake", sh("head -c 5000000 /dev/urandom > data; sha256sum data")).stdout
    client.exec("at-rest", sh("echo kept > f"))
    client.exec("asleep", sh("setsid sleep 1000 >/dev/null 2>&1 & echo $! > pid"))
    client.pause("asleep")
    client.stop("at-rest")
    running = client.open_exec("awake", sh("while :; do date +%s%N >> ticks; sleep 0.05; done"), detach=True)
    manager = KernelManager(kernel_name="clawdspace-awake")
    manager.start_kernel()
    kernel = manager.client()
    kernel.start_channels()
    kernel.wait_for_ready(timeout=60)
    assert answer(kernel, "x = 41") == ""
    threading.Thread(target=swallow, args=(client, "sleep 30"), daemon=True).start()
    time.sleep(0.5)

    home.kill_daemon()
    running.close()
    client.close()
    ticks_before = time.time()
    client = home.client()

    states = {space.name: space.state for space in client.list()}
    assert states == {
        "asleep": SpaceState.PAUSED,
        "at-rest": SpaceState.STOPPED,
        "awake": SpaceState.RUNNING,
    }
    assert client.exec("awake", sh("sha256sum data")).stdout == made
    assert client.exec("at-rest", sh("cat f")).stdout == b"kept\n"
    assert client.exec("asleep", sh("kill -0 $(cat pid) && echo lives")).stdout == b"lives\n"
    time.sleep(0.3)
    last = int(client.exec("awake", sh("tail -n 1 ticks")).stdout) / 1e9
    assert last > ticks_before, "the command that ran before does not run any more"
    assert answer(kernel, "print(x + 1)") == "42\n"
    kernel.stop_channels()
    manager.shutdown_kernel()
    client.close()


def test_a_command_left_alone_survives_the_daemon_with_all_it_wrote(home: Home) -> None:
    """Killed while the command runs, and again after it has ended unseen."""
    client = home.client()
    client.create("dev", SPEC)
    script = "for i in $(seq 90); do head -c 10000 /dev/zero | tr '\\0' x; sleep 0.01; done; echo err >&2; exit 7"
    running = client.open_exec("dev", sh(script), detach=True)
    running.end_stdin()

    for _ in range(2):
        home.kill_daemon()
        running.close()
        client.close()
        client = home.client()
        deadline = time.monotonic() + 20
        while client.commands("dev")[0].running:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    written = {1: b"", 2: b""}
    with client.attach("dev", running.id) as again:
        assert again.lost == {}
        for channel, data in again.output():
            written[channel] += data

    assert (written, again.exit_code) == ({1: b"x" * 900_000, 2: b"err\n"}, 7)
    assert client.commands("dev") == []
    client.close()


def swallow(client: object, script: str) -> None:
    """Run a command whose daemon will die."""
    try:
        client.exec("awake", sh(script))  # type: ignore[attr-defined]
    except SpaceError:
        return


def answer(kernel: object, code: str) -> str:
    """Run a cell and return what it printed."""
    printed: list[str] = []

    def keep(message: dict[str, dict[str, str]]) -> None:
        printed.append(message["content"].get("text", ""))

    kernel.execute_interactive(code, output_hook=keep, timeout=60)  # type: ignore[attr-defined]
    return "".join(printed)


@pytest.mark.docker
@pytest.mark.parametrize("home", ["docker"], indirect=True)
def test_twenty_killed_connectors_in_a_transfer_lose_nothing(home: Home) -> None:
    client = home.client()
    client.create("dev", SPEC)
    client.exec("dev", sh("true"))
    script = f"seq 1 100000000 | head -c {TRANSFER}"
    process = client.open_exec("dev", sh(script))
    digest, received, kills = hashlib.sha256(), 0, 0
    for _, data in process.output():
        digest.update(data)
        received += len(data)
        if kills < 20 and received > kills * TRANSFER // 22:
            kills += kill_connectors()
    process.close()
    client.close()

    assert (kills, received, process.exit_code) == (20, TRANSFER, 0)
    expected = hashlib.sha256()
    text = "".join(f"{n}\n" for n in range(1, 24_000_000)).encode()[:TRANSFER]
    expected.update(text)
    assert digest.hexdigest() == expected.hexdigest()


def kill_connectors() -> int:
    """Kill the process that holds the link of a space open; return 1 when there was one."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"/run/clawdspace/agent/connector.py" in command:
            os.kill(int(folder.name), signal.SIGKILL)
            return 1
    time.sleep(0.005)
    return 0
