"""The client, over the daemon's handlers and a host in memory."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawdspace_ext.client import SpacesClient
from clawdspace_ext.errors import Conflict, InvalidRequest, NotFound, Refused, TimedOut, Unavailable, Unsupported
from clawdspace_ext.spaces import ExecRequest, SpaceSpec, SpaceState, TerminalSize
from clawdspace_ext.threaded import ThreadedHost
from support.fake_daemon import FakeDaemon, fake_daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as found:
        yield found


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[SpacesClient]:
    found = SpacesClient(daemon.socket_path)
    yield found
    found.close()


def sh(command: str, **fields: object) -> ExecRequest:
    return ExecRequest(("sh", "-c", command), **fields)  # type: ignore[arg-type]  # a shorthand


def test_importing_the_client_imports_no_framework() -> None:
    """It runs in people's kernels and in every command."""
    heavy = "tornado", "docker", "jupyter_server", "pydantic", "requests", "asyncio", "websocket"
    script = f"import sys, clawdspace_ext.client; print(*[name for name in {heavy!r} if name in sys.modules])"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == ""


def test_a_created_space_comes_back_as_the_host_knows_it(client: SpacesClient, daemon: FakeDaemon) -> None:
    spec = SpaceSpec(image="python:3.12", memory=512 * 1024 * 1024 + 1, cpus=1.5)

    space = client.create("dev", spec, owner="zoë@example.org")

    assert space == daemon.host.spaces["dev"]
    assert space.record.owner == "zoë@example.org"
    assert client.get("dev") == space
    assert client.list() == [space]


def test_the_environment_reaches_the_host_and_is_never_shown(client: SpacesClient, daemon: FakeDaemon) -> None:
    client.create("dev", SpaceSpec(env={"TOKEN": "s3cret"}))

    assert daemon.host.spaces["dev"].record.spec.env == {"TOKEN": "s3cret"}
    assert "s3cret" not in str(client.request("GET", "/api/spaces/dev"))


def test_verbs_lead_to_their_states_and_may_be_repeated(client: SpacesClient) -> None:
    client.create("dev")

    states = [verb("dev").state for verb in (client.pause, client.pause, client.start, client.stop, client.pause)]

    assert states == [
        SpaceState.PAUSED,
        SpaceState.PAUSED,
        SpaceState.RUNNING,
        SpaceState.STOPPED,
        SpaceState.STOPPED,
    ]


def test_destroyed_spaces_leave_their_files_unless_told_otherwise(client: SpacesClient) -> None:
    kept, gone = client.create("kept"), client.create("gone")
    client.destroy("kept")
    client.destroy("gone", remove_volume=True)

    assert client.list() == []
    assert [(volume.id, volume.name) for volume in client.kept()] == [(kept.id, "kept")]

    client.remove_kept(kept.id)

    assert client.kept() == []
    with pytest.raises(NotFound):
        client.remove_kept(gone.id)


def test_failures_come_back_as_they_were_raised(client: SpacesClient) -> None:
    client.create("dev")

    with pytest.raises(Conflict, match="already") as conflict:
        client.create("dev")
    with pytest.raises(NotFound, match="no space named nope"):
        client.get("nope")
    with pytest.raises(InvalidRequest, match="cannot name a space"):
        client.get("../etc")
    with pytest.raises(Unsupported, match="gpu is not supported yet") as unsupported:
        client.request("POST", "/api/spaces", {"name": "x", "gpu": True})
    with pytest.raises(Refused, match="No such file") as refused:
        client.exec("dev", ExecRequest(("/nowhere",)))

    assert (conflict.value.field, conflict.value.remedy) == ("name", "choose another name")
    assert unsupported.value.field == "gpu"
    assert refused.value.reason == "not_found"


def test_an_unknown_path_or_method_is_said_in_json(client: SpacesClient) -> None:
    with pytest.raises(NotFound, match="no such path"):
        client.request("GET", "/api/nonsense")
    with pytest.raises(InvalidRequest, match="Method Not Allowed"):
        client.request("PUT", "/api/spaces", {})


def test_whoever_is_on_the_socket_is_its_user(client: SpacesClient) -> None:
    assert client.create("dev").record.owner == pwd.getpwuid(os.geteuid()).pw_name


def test_exec_returns_every_byte(client: SpacesClient) -> None:
    client.create("dev")

    result = client.exec("dev", sh("cat; printf '\\377\\000é' >&2; exit 3", stdin=b"\x00\xfe\r\n"))

    assert (result.stdout, result.stderr, result.exit_code) == (b"\x00\xfe\r\n", b"\xff\x00\xc3\xa9", 3)
    assert result.duration > 0
    assert (result.signal, result.timed_out, result.truncated) == (None, False, False)


def test_exec_tells_what_ended_a_command(client: SpacesClient) -> None:
    client.create("dev")

    result = client.exec("dev", sh("sleep 60", timeout=0.2))

    assert (result.exit_code, result.signal, result.timed_out) == (137, 9, True)


def test_the_same_key_runs_a_command_once(client: SpacesClient, daemon: FakeDaemon) -> None:
    client.create("dev")

    results = [client.exec("dev", sh("date +%N"), key="once") for _ in range(3)]

    assert len({result.stdout for result in results}) == 1
    assert daemon.host.calls.count("exec dev") == 1


def test_connections_are_kept_and_replaced_when_the_daemon_was(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as first:
        client = SpacesClient(first.socket_path)
        for _ in range(3):
            client.create(f"s{len(client.list())}")
    with pytest.raises(Unavailable, match="does not answer"):
        client.list()

    with fake_daemon(tmp_path):
        assert client.list() == []
        assert client.list() == []
        client.close()


def test_many_threads_share_a_client(client: SpacesClient) -> None:
    client.create("dev")
    outputs: list[bytes] = []

    def work(number: int) -> None:
        outputs.append(client.exec("dev", sh(f"echo {number}")).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, outputs)) == list(range(12))


def test_an_answer_that_does_not_come_in_time_is_said_so(client: SpacesClient, daemon: FakeDaemon) -> None:
    client.create("dev")
    daemon.call(daemon.host.gate.clear)

    with pytest.raises(TimedOut):
        client.request("POST", "/api/spaces/dev/exec", {"command": "true"}, timeout=0.2)

    daemon.call(daemon.host.gate.set)
    assert client.get("dev").name == "dev"


def test_nobody_listening_is_said_with_the_socket(tmp_path: Path) -> None:
    client = SpacesClient(tmp_path / "nobody.sock")

    with pytest.raises(Unavailable, match=r"nobody\.sock"):
        client.list()
    with pytest.raises(Unavailable, match=r"nobody\.sock"):
        client.open_exec("dev", sh("true"))


def test_a_threaded_host_has_the_same_verbs(client: SpacesClient) -> None:
    async def use() -> tuple[object, ...]:
        host = ThreadedHost(client)
        created = await host.create("dev", SpaceSpec(), owner="alice")
        paused = await host.pause("dev")
        result = await host.exec("dev", sh("printf hi"))
        names = [space.name for space in await host.list()]
        await host.destroy("dev")
        return created.record.owner, paused.state, result.stdout, names

    assert asyncio.run(use()) == ("alice", SpaceState.PAUSED, b"hi", ["dev"])


# -- followed commands ------------------------------------------------------------------------------------------------


def test_a_followed_command_gives_its_outputs_apart(client: SpacesClient) -> None:
    client.create("dev")

    with client.open_exec("dev", sh("cat; echo oops >&2; exit 4", stdin=b"in")) as process:
        process.write(b"put\xff")
        process.end_stdin()
        output = list(process.output())

    assert b"".join(data for channel, data in output if channel == 1) == b"input\xff"
    assert b"".join(data for channel, data in output if channel == 2) == b"oops\n"
    assert (process.exit_code, process.exit_signal, process.timed_out) == (4, None, False)


def test_a_followed_command_takes_signals_and_sizes(client: SpacesClient, daemon: FakeDaemon) -> None:
    client.create("dev")

    process = client.open_exec("dev", sh("echo ready; exec sleep 60", tty=TerminalSize(120, 40)))
    output = process.output()
    assert next(output) == (1, b"ready\n")
    process.resize(100, 30)
    process.signal(signal.SIGTERM)

    assert list(output) == []
    assert (process.exit_code, process.exit_signal) == (143, 15)
    assert daemon.host.last_exec is not None
    assert daemon.host.last_exec.tty == TerminalSize(120, 40)
    assert daemon.host.processes[0].sizes == [(100, 30)]


def test_a_command_that_cannot_start_raises_why(client: SpacesClient) -> None:
    client.create("dev")

    with pytest.raises(Refused, match="No such file"):
        client.open_exec("dev", ExecRequest(("/nowhere",)))
    with pytest.raises(NotFound):
        client.open_exec("nope", sh("true"))


def test_leaving_a_command_hangs_it_up(client: SpacesClient, daemon: FakeDaemon) -> None:
    client.create("dev")

    client.open_exec("dev", sh("sleep 60")).close()

    assert _exit_code(daemon) == 128 + signal.SIGHUP
    assert daemon.host.processes[0].detached


def test_a_detached_command_runs_on(client: SpacesClient, daemon: FakeDaemon, tmp_path: Path) -> None:
    client.create("dev")

    client.open_exec("dev", sh(f"sleep 0.5; echo done > {tmp_path}/out"), detach=True).close()

    deadline = time.monotonic() + 10
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "out").read_text() == "done\n"


def test_a_signal_gets_through_when_stdin_is_stuck(client: SpacesClient, daemon: FakeDaemon) -> None:
    """Whoever pipes a large file into a command that reads nothing can still interrupt it."""
    client.create("dev")
    process = client.open_exec("dev", sh("exec sleep 60"))

    def fill() -> None:
        try:
            process.write(bytes(64 * 1024 * 1024))
        except Unavailable:
            pass  # the point of the test

    writer = threading.Thread(target=fill)
    writer.start()
    time.sleep(0.3)
    started = time.monotonic()
    process.signal(signal.SIGINT)
    writer.join(10)

    process.close()

    assert not writer.is_alive()
    assert _exit_code(daemon) in (128 + signal.SIGHUP, 128 + signal.SIGINT)
    assert time.monotonic() - started < 5


def test_output_waits_for_a_slow_reader(client: SpacesClient, daemon: FakeDaemon) -> None:
    """What is not read stays in the space: neither the daemon nor the client collects it."""
    client.create("dev")
    before = _memory()

    process = client.open_exec("dev", sh("head -c 300000000 /dev/zero"))
    output = process.output()
    next(output)
    time.sleep(1)
    grown = _memory() - before
    total = sum(len(data) for _, data in output)

    assert total > 299_000_000
    assert grown < 20_000_000


def _memory() -> int:
    """The resident bytes of this process, in which both sides run."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _exit_code(daemon: FakeDaemon) -> int | None:
    deadline = time.monotonic() + 10
    while daemon.host.processes[0].exit_code is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return daemon.host.processes[0].exit_code
