"""What somebody who runs a server sees of it: metrics and the log."""

from __future__ import annotations

import os
import time

import pytest

from clawdspace_ext import daemon_process, paths
from clawdspace_ext.errors import NotFound, SpaceError
from clawdspace_ext.spaces import MIB, ExecRequest, SpaceSpec
from clawdspace_ext.transport import UnixTransport
from support.home import Home

pytestmark = pytest.mark.parametrize("home", ["bubblewrap"], indirect=True)
SPEC = SpaceSpec(memory=256 * MIB, env={"SECRET": "hunter2"})


def sh(script: str) -> ExecRequest:
    return ExecRequest(("sh", "-c", script))


def metrics() -> dict[str, float]:
    """Return every sample by its name and labels."""
    transport = UnixTransport(daemon_process.ensure_daemon())
    answer = transport.request("GET", "/api/metrics", None, {}, 10)
    transport.close()
    assert answer.status == 200
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def log_until(text: str) -> str:
    """Return the log once something is in it."""
    deadline = time.monotonic() + 10
    while text not in (found := paths.log_path().read_text()):
        assert time.monotonic() < deadline, f"{text!r} is not in {found}"
        time.sleep(0.1)
    return found


def test_metrics_count_spaces_commands_failures_and_the_daemon_itself(home: Home) -> None:
    client = home.client()
    for name in ("one", "two"):
        client.create(name, SPEC)
    client.pause("two")
    for _ in range(3):
        client.exec("one", sh("sleep 0.02"))
    with pytest.raises(NotFound):
        client.exec("nobody", sh("true"))
    process = client.open_exec("one", sh("true"))
    list(process.output())
    process.close()

    found = metrics()

    assert found['clawdspace_spaces{engine="bubblewrap",state="running"}'] == 1
    assert found['clawdspace_spaces{engine="bubblewrap",state="paused"}'] == 1
    assert found['clawdspace_execs_total{how="whole"}'] == 3
    assert found['clawdspace_execs_total{how="streamed"}'] == 1
    assert found["clawdspace_exec_seconds_count"] == 3
    assert found["clawdspace_exec_seconds_sum"] >= 0.06
    assert found['clawdspace_exec_seconds_bucket{le="0.01"}'] == 0
    assert found['clawdspace_failures_total{code="not_found"}'] == 1
    assert found["clawdspace_link_reconnects_total"] == 0
    assert 10e6 < found["process_resident_memory_bytes"] < 200e6
    assert 0 < time.time() - found["process_start_time_seconds"] < 60
    assert metrics()["clawdspace_link_reconnects_total"] == 0, "asking twice is possible"
    client.close()


def test_the_log_says_who_did_what_and_how_long_it_took_and_no_secret(home: Home) -> None:
    client = home.client()
    client.create("dev", SPEC)
    client.exec("dev", ExecRequest(("true",), env={"TOKEN": "hunter3"}))
    client.pause("dev")
    client.start("dev")
    client.stop("dev")
    space = client.get("dev")
    client.destroy("dev")
    client.remove_kept(space.id)
    with pytest.raises(SpaceError):
        client.create("dev", SpaceSpec(image="nope"))
    client.close()

    lines = [line.partition("daemon_journal: ")[2] for line in log_until("removed for good").splitlines()]
    deeds = [line.rpartition(" in ")[0] for line in lines if line]

    who = "by 'root'" if os.geteuid() == 0 else "by "
    expected = ("dev created", "dev put to sleep", "dev started", "dev stopped", "dev destroyed")
    assert len(deeds) == 6
    assert all(deed.startswith(f"{text} {who}") for text, deed in zip(expected, deeds, strict=False)), deeds
    assert deeds[5].startswith(f"{space.id} removed for good")
    assert "hunter" not in paths.log_path().read_text()


def test_the_log_says_that_a_space_ended_by_itself_and_why(home: Home) -> None:
    client = home.client()
    client.create("dev", SPEC)
    process = client.open_exec("dev", sh("kill -TERM 1; sleep 10"))
    try:
        list(process.output())
    except SpaceError:
        pass  # the space may be gone before it can say how its command ended
    process.close()
    deadline = time.monotonic() + 10
    while client.get("dev").state == "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    client.close()

    assert "dev ended by itself: " in log_until("ended by itself")
