"""What every engine promises, in sentences."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest

from clawdspace_ext.agent.hello import hello_frame, read_hello
from clawdspace_ext.errors import Conflict, NotFound, Unavailable, Unsupported
from clawdspace_ext.protocols import Engine
from clawdspace_ext.spaces import GIB, MIB, SpaceRecord, SpaceSpec, SpaceState

from .conftest import BuildEngine, MakeSpace, Trial, new_id, record_of

pytestmark = pytest.mark.asyncio


NAMES_OF_PROCESSES = "cat /proc/[0-9]*/comm 2>/dev/null"


async def states(engine: Engine) -> dict[str, SpaceState]:
    return {space.name: space.state for space in await engine.list()}


# -- making and claiming ---------------------------------------------------------------------------------------------


async def test_a_prepared_sandbox_is_nobodys_until_it_is_claimed(engine: Engine) -> None:
    space_id = new_id()
    await engine.prepare(space_id, SpaceSpec())

    assert await engine.list() == []
    assert await engine.orphans() == [space_id]

    record = record_of(space_id, "dev", cpus=0.5, env={"A": "1"})
    await engine.claim(record)

    assert [(space.record, space.state, space.engine) for space in await engine.list()] == [
        (record, SpaceState.STOPPED, engine.name)
    ]
    assert await engine.orphans() == []


async def test_a_sandbox_can_run_before_it_is_claimed(engine: Engine) -> None:
    record = record_of(new_id(), "dev")
    await engine.prepare(record.id, SpaceSpec())
    await engine.start(record.id)
    trial = Trial(engine, record)
    pid = await trial.sh("sleep 1000 >/dev/null & echo $!")
    await engine.claim(record)

    assert await states(engine) == {"dev": SpaceState.RUNNING}
    assert await trial.sh(f"kill -0 {pid} && echo alive") == "alive"
    await trial.link.close()


async def test_what_nobody_claimed_leaves_nothing(engine: Engine) -> None:
    space_id = new_id()
    await engine.prepare(space_id, SpaceSpec())
    await engine.start(space_id)
    await engine.destroy(space_id, remove_files=False)

    assert await engine.orphans() == []
    assert await engine.kept() == []


async def test_a_name_is_claimed_once_even_at_the_same_moment(engine: Engine) -> None:
    records = [record_of(new_id(), "dev") for _ in range(4)]
    for record in records:
        await engine.prepare(record.id, record.spec)
    outcomes = await asyncio.gather(*(engine.claim(record) for record in records), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes if outcome is not None] == [Conflict] * 3
    assert list(await states(engine)) == ["dev"]
    assert len(await engine.orphans()) == 3


async def test_a_name_is_free_again_when_its_space_is_gone(engine: Engine, make_space: MakeSpace) -> None:
    first = await make_space("dev", start=False)
    await engine.destroy(first.id, remove_files=True)
    second = await make_space("dev", start=False)

    assert [space.id for space in await engine.list()] == [second.id]


async def test_a_space_cannot_become_another(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space("dev", start=False)
    with pytest.raises(Conflict):
        await engine.claim(record_of(space.id, "other"))

    assert list(await states(engine)) == ["dev"]


async def test_what_was_never_prepared_cannot_be_claimed(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.claim(record_of(new_id(), "dev"))


# -- running ---------------------------------------------------------------------------------------------------------


async def test_the_agent_of_a_started_space_answers_a_hello(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    stream = await engine.dial(space.id)
    stream.write(hello_frame({"session": "0123", "received": 0}))
    await stream.drain()
    data = b""
    while (hello := read_hello(data)) is None:
        piece = await stream.read()
        assert piece
        data += piece
    stream.close()
    stream.close()

    assert hello[0]["session"] == "0123"


async def test_a_stopped_space_cannot_be_reached(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(start=False)
    with pytest.raises(Unavailable):
        await engine.dial(space.id)


async def test_a_command_runs_in_the_workspace_as_nobody_special(make_space: MakeSpace) -> None:
    space = await make_space()

    assert await space.sh("pwd; echo $HOME; test $(id -u) -ge 1000") == "/workspace\n/workspace"
    assert await space.sh("touch f && ls && python3 -c 'print(6 * 7)'") == "f\n42"


async def test_a_paused_space_does_nothing_and_keeps_its_link(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh("while :; do date +%s%N; sleep 0.01; done > ticks & :")
    await asyncio.sleep(0.2)
    await engine.pause(space.id)
    used = (await engine.usage(space.id)).cpu_seconds
    await asyncio.sleep(0.5)

    assert (await space.look()).state is SpaceState.PAUSED
    assert (await engine.usage(space.id)).cpu_seconds == used

    await engine.resume(space.id)
    await asyncio.sleep(0.2)
    ticks = [int(tick) for tick in (await space.sh("cat ticks")).split()]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(ticks))

    assert gaps[-1] > 0.45e9
    assert gaps[-2] < 0.4e9
    assert (await space.look()).state is SpaceState.RUNNING
    assert space.dials == 1


async def test_a_request_made_to_a_paused_space_is_answered_when_it_runs_on(
    engine: Engine, make_space: MakeSpace
) -> None:
    space = await make_space()
    await space.sh(":")
    await engine.pause(space.id)
    answer = asyncio.create_task(space.sh("echo woken"))
    await asyncio.sleep(0.3)
    assert not answer.done()
    await engine.resume(space.id)

    assert await answer == "woken"
    assert space.dials == 1


async def test_a_stopped_space_has_its_files_and_no_process(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh("echo kept > file; sleep 1000 >/dev/null & :")
    assert "sleep" in await space.sh(NAMES_OF_PROCESSES)
    await engine.stop(space.id)
    await space.link.close()
    assert (await space.look()).state is SpaceState.STOPPED
    await engine.start(space.id)

    assert await space.sh("cat file") == "kept"
    assert "sleep" not in await space.sh(NAMES_OF_PROCESSES)


async def test_a_paused_space_can_be_stopped(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh("sleep 1000 >/dev/null & :")
    await engine.pause(space.id)
    began = time.monotonic()
    await engine.stop(space.id)

    assert time.monotonic() - began < 4
    assert (await space.look()).state is SpaceState.STOPPED


async def test_processes_that_ignore_signals_are_ended_all_the_same(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh("(trap '' TERM HUP INT; while :; do sleep 1; done) >/dev/null & :")
    began = time.monotonic()
    await engine.stop(space.id)

    assert time.monotonic() - began < 4.5
    assert (await space.look()).state is SpaceState.STOPPED


async def test_every_verb_can_be_repeated(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(start=False)
    for verb, state in [
        (engine.pause, SpaceState.STOPPED),
        (engine.start, SpaceState.RUNNING),
        (engine.start, SpaceState.RUNNING),
        (engine.resume, SpaceState.RUNNING),
        (engine.pause, SpaceState.PAUSED),
        (engine.pause, SpaceState.PAUSED),
        (engine.start, SpaceState.RUNNING),
        (engine.pause, SpaceState.PAUSED),
        (engine.resume, SpaceState.RUNNING),
        (engine.stop, SpaceState.STOPPED),
        (engine.stop, SpaceState.STOPPED),
        (engine.pause, SpaceState.STOPPED),
    ]:
        await verb(space.id)
        assert (await space.look()).state is state
    await engine.destroy(space.id, remove_files=True)
    await engine.destroy(space.id, remove_files=True)

    assert await engine.list() == []


async def test_no_verb_works_on_what_is_not_there(engine: Engine) -> None:
    for verb in (engine.start, engine.pause, engine.resume, engine.stop, engine.usage, engine.dial):
        with pytest.raises((NotFound, Unavailable)):
            await verb(new_id())
    await engine.destroy(new_id(), remove_files=True)


async def test_spaces_can_be_started_at_the_same_time(engine: Engine, make_space: MakeSpace) -> None:
    spaces = await asyncio.gather(*(make_space(f"dev{n}") for n in range(4)))

    assert await asyncio.gather(*(space.sh(f"echo {n}") for n, space in enumerate(spaces))) == ["0", "1", "2", "3"]


# -- files that outlive their space ----------------------------------------------------------------------------------


async def test_files_are_kept_with_whose_they_were(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh("echo precious > file")
    await engine.destroy(space.id, remove_files=False)

    assert [(k.id, k.name, k.owner, k.created) for k in await engine.kept()] == [
        (space.id, "dev", "ann", space.record.created)
    ]

    fresh = await make_space("dev")
    assert await fresh.sh("ls -A") == ""
    adopter = await make_space("heir", adopt=space.id)
    assert await adopter.sh("cat file && echo more >> file && cat file") == "precious\nprecious\nmore"
    assert await engine.kept() == []


async def test_adopted_files_are_kept_again(engine: Engine, make_space: MakeSpace) -> None:
    first = await make_space()
    await first.sh("echo precious > file")
    await engine.destroy(first.id, remove_files=False)
    second = await make_space("heir", adopt=first.id)
    await engine.destroy(second.id, remove_files=False)

    assert [(k.id, k.name) for k in await engine.kept()] == [(second.id, "heir")]
    third = await make_space("third", adopt=second.id)
    assert await third.sh("cat file") == "precious"


async def test_files_cannot_be_adopted_twice(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(start=False)
    await engine.destroy(space.id, remove_files=False)
    await engine.prepare(new_id(), SpaceSpec(), adopt=space.id)
    with pytest.raises(Conflict):
        await engine.prepare(new_id(), SpaceSpec(), adopt=space.id)


async def test_files_that_are_not_there_cannot_be_adopted(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.prepare(new_id(), SpaceSpec(), adopt=new_id())


async def test_somebody_elses_files_cannot_be_claimed(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(start=False)
    await engine.destroy(space.id, remove_files=False)
    thief = record_of(new_id(), "dev", owner="eve")
    await engine.prepare(thief.id, thief.spec, adopt=space.id)
    with pytest.raises(Conflict):
        await engine.claim(thief)


@pytest.mark.parametrize("remove_files", [True, False])
async def test_files_an_unclaimed_sandbox_had_adopted_stay_kept(
    engine: Engine, make_space: MakeSpace, remove_files: bool
) -> None:
    space = await make_space(start=False)
    await engine.destroy(space.id, remove_files=False)
    orphan = new_id()
    await engine.prepare(orphan, SpaceSpec(), adopt=space.id)
    await engine.destroy(orphan, remove_files=remove_files)

    assert [k.id for k in await engine.kept()] == [space.id]


async def test_files_can_be_removed_with_their_space_or_later(engine: Engine, make_space: MakeSpace) -> None:
    removed, kept = await make_space("a", start=False), await make_space("b", start=False)
    await engine.destroy(removed.id, remove_files=True)
    await engine.destroy(kept.id, remove_files=False)
    await engine.remove_kept(kept.id)

    assert await engine.kept() == []
    with pytest.raises(NotFound):
        await engine.remove_kept(kept.id)


# -- the engine is the truth -----------------------------------------------------------------------------------------


async def test_another_engine_object_finds_everything_as_it_is(
    engine: Engine, build_engine: BuildEngine, make_space: MakeSpace
) -> None:
    running, paused = await make_space("running"), await make_space("paused")
    stopped, gone = await make_space("stopped"), await make_space("gone")
    pid = await running.sh("sleep 1000 >/dev/null & echo $!")
    await paused.sh("echo content > file")
    await engine.pause(paused.id)
    await engine.stop(stopped.id)
    await engine.destroy(gone.id, remove_files=False)
    orphan = new_id()
    await engine.prepare(orphan, SpaceSpec())
    before = sorted(await engine.list(), key=lambda space: space.name)
    for space in (running, paused):
        await space.link.close()

    other = build_engine()
    try:
        assert sorted(await other.list(), key=lambda space: space.name) == before
        assert [space.state.value for space in before] == ["paused", "running", "stopped"]
        assert await other.orphans() == [orphan]
        assert [k.id for k in await other.kept()] == [gone.id]
        for trial in (running, paused):
            trial.engine = other
        assert await running.sh(f"kill -0 {pid} && echo alive") == "alive"
        await other.resume(paused.id)
        assert await paused.sh("cat file") == "content"
    finally:
        for trial in (running, paused):
            await trial.link.close()
        await other.close()


# -- counters and limits ---------------------------------------------------------------------------------------------


async def test_usage_counts_processors_memory_and_processes(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(memory=512 * MIB)
    before = await engine.usage(space.id)
    hold = "import time; x = bytearray(b'x') * (100 << 20)\nwhile time.process_time() < 1: 1\ntime.sleep(30)"
    running = asyncio.create_task(space.run("python3", "-c", hold))
    deadline = time.monotonic() + 20
    now = before
    while now.cpu_seconds < before.cpu_seconds + 0.5 or now.memory_bytes < before.memory_bytes + 80 * MIB:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        now = await engine.usage(space.id)
    running.cancel()

    assert now.pids > before.pids >= 1
    assert now.memory_limit_bytes == 512 * MIB


async def test_a_stopped_space_has_no_usage(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(start=False)
    with pytest.raises(NotFound):
        await engine.usage(space.id)


async def test_an_idle_space_is_small(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh(":")

    assert (await engine.usage(space.id)).memory_bytes <= 20 * MIB


async def must_enforce(space: Trial, limit: str) -> None:
    """Skip the rest of a test where the engine says, at the space itself, that it cannot enforce a limit."""
    gaps = (await space.look()).not_enforced
    assert gaps == (await space.engine.capabilities()).not_enforced
    if limit in gaps:
        pytest.skip(f"{space.engine.name} says that it cannot enforce {limit} here")


async def test_memory_beyond_the_limit_kills_the_eater_alone(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(memory=96 * MIB)
    await must_enforce(space, "memory")
    bystander = await space.sh("sleep 1000 >/dev/null & echo $!")
    eater = await space.run("python3", "-c", "x = bytearray(b'x') * (1 << 30)")

    assert (eater.exit_code, eater.signal) == (137, 9)
    assert await space.sh(f"kill -0 {bystander} && echo alive") == "alive"
    assert await engine.death(space.id) is None
    assert space.dials == 1


async def test_limits_are_those_of_the_claim(engine: Engine) -> None:
    record = record_of(new_id(), "dev", memory=96 * MIB)
    await engine.prepare(record.id, SpaceSpec(memory=GIB))
    await engine.start(record.id)
    await engine.claim(record)
    space = Trial(engine, record)
    try:
        await must_enforce(space, "memory")
        assert (await engine.usage(record.id)).memory_limit_bytes == 96 * MIB
        assert (await space.run("python3", "-c", "x = bytearray(b'x') * (400 << 20)")).exit_code == 137
    finally:
        await space.link.close()


FORK_BOMB = """
import os, signal
made = 0
try:
    while made < 2000:
        if os.fork() == 0:
            signal.pause()
        made += 1
except OSError:
    print(made)
"""


async def test_processes_are_limited(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space(memory=512 * MIB)
    await must_enforce(space, "pids")
    result = await space.run("python3", "-c", FORK_BOMB)

    assert 400 < int(result.stdout) < 512
    assert (await engine.usage(space.id)).pids <= 512
    await engine.stop(space.id)


async def test_processors_are_limited(make_space: MakeSpace) -> None:
    space = await make_space(cpus=0.2)
    await must_enforce(space, "cpus")
    spin = "import time; end = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"

    assert 0.1 < float(await space.sh(f"python3 -c '{spin}'")) < 0.8


async def test_limits_that_must_hold_and_cannot_are_refused(engine: Engine) -> None:
    record = record_of(new_id(), "dev", require_limits=True)
    gaps = (await engine.capabilities()).not_enforced
    if gaps:
        with pytest.raises(Unsupported):
            await prepare_and_claim(engine, record)
        assert await engine.list() == []
    else:
        await prepare_and_claim(engine, record)
        assert (await engine.list())[0].not_enforced == ()


async def prepare_and_claim(engine: Engine, record: SpaceRecord) -> None:
    await engine.prepare(record.id, record.spec)
    await engine.claim(record)


async def test_a_death_is_told_once_it_happened(engine: Engine, make_space: MakeSpace) -> None:
    space = await make_space()
    assert await engine.death(space.id) is None
    await engine.stop(space.id)
    death = await engine.death(space.id)

    assert death is not None
    assert isinstance(death.exit_code, int)
    assert not death.oom


# -- code nobody has read --------------------------------------------------------------------------------------------

PROBE = r"""
import ctypes, json, os, signal, socket, subprocess

def fails(*argv):
    return subprocess.run(argv, capture_output=True).returncode != 0

def error(job):
    try:
        job()
    except OSError as failure:
        return type(failure).__name__
    return "no error"

libc = ctypes.CDLL(None, use_errno=True)
def getfd():
    pidfd = os.pidfd_open(1)
    stolen = [fd for fd in range(32) if libc.syscall(438, pidfd, fd, 0) >= 0]
    os.close(pidfd)
    if not stolen:
        raise PermissionError

def ptrace():
    if libc.ptrace(16, 1, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no")

os.kill(1, signal.SIGKILL)
os.kill(1, signal.SIGSTOP)
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "caps": {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16},
    "no_new_privs": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "groups": [g for g in os.getgroups() if g != os.getgid()],
    "uid": os.getuid() == os.geteuid() >= 1000,
    "programs": [open(f"/proc/{name}/comm").read().strip() for name in os.listdir("/proc") if name.isdigit()],
    "networks": [name for _, name in socket.if_nameindex()],
    "environment": sorted(os.environ),
    "agent memory": error(lambda: open("/proc/1/mem", "rb").read(1)),
    "agent environment": error(lambda: open("/proc/1/environ").read()),
    "agent descriptors": error(lambda: os.listdir("/proc/1/fd")),
    "agent descriptor": error(getfd),
    "agent traced": error(ptrace),
    "root's files": error(lambda: os.listdir("/root/.ssh")),
    "shadow": error(lambda: open("/etc/shadow").read(1)),
    "namespace": fails("unshare", "--user", "--map-root-user", "true"),
    "mount": fails("mount", "-t", "tmpfs", "none", "/tmp"),
    "writable": [p for p in ("/", "/usr", "/etc", "/opt", "/run", "/dev", "/run/clawdspace/agent") if os.access(p, os.W_OK)],
    "outside": error(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
    "open": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd") if fd not in "012" and os.path.exists(f"/proc/self/fd/{fd}")),
    "sockets": [p for p in ("/run/docker.sock", "/var/run/docker.sock", "/run/dbus", "/run/systemd") if os.path.exists(p)],
}))
"""  # noqa: E501  # one finding a line


async def test_hostile_code_finds_nothing_to_hold_on_to(make_space: MakeSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    space = await make_space()
    result = await space.run("python3", "-c", PROBE)
    assert result.stderr == b""
    found = json.loads(result.stdout)
    environment, programs = set(found.pop("environment")), found.pop("programs")
    uncertain = {name: found.pop(name) for name in ("root's files", "shadow", "agent descriptor", "outside")}

    assert found == {
        "caps": True,
        "no_new_privs": "1",
        "seccomp": "2",
        "groups": [],
        "uid": True,
        "networks": ["lo"],
        "agent memory": "PermissionError",
        "agent environment": "PermissionError",
        "agent descriptors": "PermissionError",
        "agent traced": "PermissionError",
        "namespace": True,
        "mount": True,
        "writable": [],
        "open": [],
        "sockets": [],
    }
    assert "no error" not in uncertain.values()
    assert {name.rstrip("0123456789.") for name in programs} == {"python"}  # the agent, this, and ways to the agent
    assert environment >= {"HOME", "PATH", "LANG", "TERM", "USER"}
    assert not any("SECRET" in name or "TOKEN" in name or "PYTEST" in name for name in environment)
    assert (await space.look()).state is SpaceState.RUNNING


async def test_spaces_do_not_see_each_other(make_space: MakeSpace) -> None:
    one, other = await make_space("one"), await make_space("other")
    await one.sh("echo secret > file; echo secret > /tmp/file; sleep 1000 >/dev/null & :")
    assert "sleep" in await one.sh(NAMES_OF_PROCESSES)

    assert await other.sh("ls -A /workspace /tmp") == "/tmp:\n\n/workspace:"
    assert "sleep" not in await other.sh(NAMES_OF_PROCESSES)


async def test_what_a_space_starts_dies_before_its_agent_when_memory_runs_out(make_space: MakeSpace) -> None:
    space = await make_space()

    assert int(await space.sh("cat /proc/self/oom_score_adj")) > int(await space.sh("cat /proc/1/oom_score_adj")) >= 0
