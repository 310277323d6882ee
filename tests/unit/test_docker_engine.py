"""What only Docker can get wrong, on a real engine; what every engine must do is in tests/contract."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio

from clawdspace_ext.agent.hello import MAGIC, hello_frame
from clawdspace_ext.engines.docker import DockerEngine
from clawdspace_ext.engines.docker import usage as counters
from clawdspace_ext.engines.docker.agent_files import remove_stale_helpers
from clawdspace_ext.engines.docker.records import Labels
from clawdspace_ext.errors import Conflict, InvalidRequest, Unavailable, Unsupported
from clawdspace_ext.link import Link
from clawdspace_ext.spaces import GIB, MIB, SpaceRecord, SpaceSpec, SpaceState
from support.dockerd import Dockerd, NoDocker, shared_dockerd

pytestmark = [pytest.mark.docker, pytest.mark.asyncio]

INSTALL = "0123456789abcdef"


@pytest.fixture(scope="module")
def dockerd() -> Dockerd:
    try:
        return shared_dockerd()
    except NoDocker as reason:
        pytest.skip(str(reason))


@pytest.fixture
def client(dockerd: Dockerd) -> Iterator[docker.APIClient]:
    """The engine without us in between."""
    with contextlib.closing(docker.APIClient(dockerd.host, timeout=60)) as client:
        yield client
    dockerd.clear()


@pytest_asyncio.fixture
async def engine(dockerd: Dockerd, client: docker.APIClient) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(INSTALL, docker_host=dockerd.host)
    yield engine
    await engine.close()


def record(space_id: str, name: str = "dev", owner: str = "ann", **spec: Any) -> SpaceRecord:
    return SpaceRecord(space_id, name, owner, SpaceSpec(**spec), datetime.now(UTC))


async def make(engine: DockerEngine, name: str = "dev", **spec: Any) -> str:
    """Make a space and start it."""
    space_id = secrets.token_hex(6)
    await engine.prepare(space_id, SpaceSpec(**spec))
    await engine.claim(record(space_id, name, **spec))
    await engine.start(space_id)
    return space_id


def container_of(client: docker.APIClient, space_id: str) -> dict[str, Any]:
    [listed] = client.containers(all=True, filters={"label": f"clawdspace.id={space_id}"})
    return client.inspect_container(listed["Id"])


def run_in(client: docker.APIClient, space_id: str, *command: str, user: str = "1001") -> str:
    """Run a command past our agent."""
    created = client.exec_create(container_of(client, space_id)["Id"], list(command), user=user)
    return client.exec_start(created["Id"]).decode()


async def reach(engine: DockerEngine, space_id: str) -> object:
    """Ask the agent something through a link of our own."""
    link = Link(lambda: engine.dial(space_id), "test")
    try:
        return await link.call("processes", {})
    finally:
        await link.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a Docker engine that hangs until its client gives up."""
    await reader.read(100)
    await asyncio.sleep(2.5)
    writer.close()


def volumes(client: docker.APIClient) -> set[str]:
    return {volume["Name"] for volume in client.volumes()["Volumes"] or [] if "agent" not in volume["Name"]}


async def test_the_agent_answers_and_the_space_is_locked_down(engine: DockerEngine, client: docker.APIClient) -> None:
    space_id = await make(engine)
    assert await reach(engine, space_id) == []

    assert run_in(client, space_id, "cat", "/etc/resolv.conf").split() == ["nameserver", "127.0.0.1"]
    status = run_in(
        client, space_id, "sh", "-c", "cat /proc/self/status; id -u; ls /sys/class/net; touch /etc/x /workspace/x"
    )

    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "\n1001\n" in status
    assert "Seccomp_filters:\t2" in run_in(client, space_id, "cat", "/proc/1/status"), "ours on top of Docker's"
    assert "\nlo\n" in status
    assert "eth" not in status
    assert "cannot touch '/etc/x': Read-only file system" in status
    assert "/workspace/x" not in status


async def test_code_in_the_space_cannot_change_the_agent(engine: DockerEngine, client: docker.APIClient) -> None:
    space_id = await make(engine)

    for user in ("1001", "0"):
        assert "cannot touch" in run_in(client, space_id, "touch", "/run/clawdspace/agent/main.py", user=user)
    run_in(client, space_id, "kill", "-9", "1")
    assert (await engine.list())[0].state is SpaceState.RUNNING


async def test_the_agent_is_compiled_once_for_an_image(engine: DockerEngine, client: docker.APIClient) -> None:
    space_id = await make(engine)
    cached = run_in(client, space_id, "ls", "/run/clawdspace/agent/__pycache__")

    assert "main.cpython-" in cached
    await make(engine, "second")
    names = [volume["Name"] for volume in client.volumes()["Volumes"] if "agent" in volume["Name"]]
    assert len(names) == 1


async def test_an_image_that_knows_nothing_of_spaces_can_be_one(engine: DockerEngine, client: docker.APIClient) -> None:
    """It has neither a /workspace nor our user's name."""
    recipe = b"FROM clawdspace:latest\nUSER 0\nWORKDIR /\nRUN rmdir /workspace && userdel space\n"
    progress = client.build(fileobj=io.BytesIO(recipe), tag="foreign", rm=True, network_mode="none", decode=True)
    assert [step for step in progress if "error" in step] == []
    space_id = await make(engine, image="foreign")

    assert await reach(engine, space_id) == []
    assert (
        run_in(client, space_id, "sh", "-c", "echo hello > a && cat a; ls -d /workspace/*") == "hello\n/workspace/a\n"
    )


async def test_an_image_without_python_is_refused_by_name(engine: DockerEngine, client: docker.APIClient) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    client.import_image_from_data(archive.getvalue(), repository="empty")

    with pytest.raises(Unsupported, match=r"image empty:latest cannot be a space: it has no python3.*3\.8"):
        await engine.prepare("aaaaaaaaaaaa", SpaceSpec(image="empty:latest"))
    assert client.containers(all=True) == []
    assert volumes(client) == set()


async def test_an_agent_that_does_not_load_in_an_image_is_an_error_with_the_reason(
    dockerd: Dockerd, client: docker.APIClient, tmp_path: Path
) -> None:
    (tmp_path / "__init__.py").touch()
    (tmp_path / "main.py").write_text("import a_module_that_is_not_there\n")
    engine = DockerEngine(INSTALL, docker_host=dockerd.host, agent_folder=tmp_path)

    with pytest.raises(Unsupported, match="No module named 'a_module_that_is_not_there'"):
        await engine.prepare("aaaaaaaaaaaa", SpaceSpec())
    await engine.close()


async def test_the_agent_comes_back_after_a_volume_prune(engine: DockerEngine, client: docker.APIClient) -> None:
    await engine.destroy(await make(engine), remove_files=True)
    for volume in client.volumes()["Volumes"]:
        client.remove_volume(volume["Name"])

    assert await reach(engine, await make(engine)) == []


async def test_two_daemons_may_fit_an_image_at_the_same_time(dockerd: Dockerd, client: docker.APIClient) -> None:
    engines = [DockerEngine(INSTALL, docker_host=dockerd.host) for _ in range(3)]
    await asyncio.gather(*(engine.prepare(secrets.token_hex(6), SpaceSpec()) for engine in engines))

    assert len(await engines[0].orphans()) == 3
    for engine in engines:
        await engine.close()


async def test_helpers_that_a_crash_left_go_and_living_ones_stay(
    client: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = Labels(INSTALL)
    left = client.create_container("clawdspace:latest", ["sleep", "60"], labels=labels.common("helper"))
    client.start(left)
    remove_stale_helpers(client, labels)
    assert len(client.containers()) == 1

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 600)
    remove_stale_helpers(client, Labels("somebody else's"))
    assert len(client.containers()) == 1
    remove_stale_helpers(client, labels)
    assert client.containers(all=True) == []


@pytest.mark.parametrize("image", ["no-such-image:1", "No Such//Image", "../x"])
async def test_an_image_that_is_not_here_is_a_fault_of_the_request(engine: DockerEngine, image: str) -> None:
    with pytest.raises(InvalidRequest, match="docker pull") as caught:
        await engine.prepare("aaaaaaaaaaaa", SpaceSpec(image=image))

    assert caught.value.field == "image"


async def test_limits_are_set_at_the_claim_and_taken_back_when_it_fails(
    engine: DockerEngine, client: docker.APIClient
) -> None:
    await make(engine, "taken")
    await engine.prepare("aaaaaaaaaaaa", SpaceSpec())
    with pytest.raises(Conflict) as caught:
        await engine.claim(record("aaaaaaaaaaaa", "taken", memory=GIB))
    host = container_of(client, "aaaaaaaaaaaa")["HostConfig"]

    assert caught.value.field == "name"
    assert (host["Memory"], host["MemorySwap"], host["CpuQuota"]) == (2 * GIB, 2 * GIB, 100_000)
    assert "clawdspace-aaaaaaaaaaaa-record" not in volumes(client)

    await engine.claim(record("aaaaaaaaaaaa", "free", memory=GIB, cpus=0.5))
    host = container_of(client, "aaaaaaaaaaaa")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["CpuQuota"]) == (GIB, GIB, 50_000)


async def test_kept_files_cannot_be_taken_by_someone_else(engine: DockerEngine) -> None:
    first = await make(engine)
    await engine.destroy(first, remove_files=False)
    await engine.prepare("bbbbbbbbbbbb", SpaceSpec(), adopt=first)

    with pytest.raises(Conflict, match="someone else"):
        await engine.claim(record("bbbbbbbbbbbb", "mine", owner="bob"))

    await engine.destroy("bbbbbbbbbbbb", remove_files=True)
    assert [(kept.id, kept.owner) for kept in await engine.kept()] == [(first, "ann")]


async def test_a_space_whose_record_was_pruned_keeps_its_name_and_its_files(
    engine: DockerEngine, client: docker.APIClient
) -> None:
    space_id = await make(engine, cpus=0.5)
    run_in(client, space_id, "touch", "/workspace/precious")
    client.remove_volume(f"clawdspace-{space_id}-record")

    [space] = await engine.list()
    assert (space.name, space.record.owner, space.record.spec.cpus) == ("dev", "", 0.5)

    await engine.destroy(space_id, remove_files=False)
    assert [(kept.id, kept.name) for kept in await engine.kept()] == [(space_id, "dev")]
    assert f"clawdspace-{space_id}" in volumes(client)


async def test_what_belongs_to_others_is_neither_seen_nor_touched(
    dockerd: Dockerd, engine: DockerEngine, client: docker.APIClient
) -> None:
    """The same names, once without labels, once of another installation."""
    client.create_container("clawdspace:latest", ["sleep", "1"], name=f"clawdspace-{INSTALL[:8]}-dev")
    client.create_volume("clawdspace-cccccccccccc")
    other = DockerEngine("fedcba9876543210", docker_host=dockerd.host)
    theirs = await make(other, "theirs")

    assert (await engine.list(), await engine.orphans(), await engine.kept()) == ([], [], [])
    with pytest.raises(Conflict):
        await engine.prepare("cccccccccccc", SpaceSpec())
    await engine.destroy(theirs, remove_files=True)
    assert [space.name for space in await other.list()] == ["theirs"]
    assert {f"clawdspace-{theirs}", "clawdspace-cccccccccccc"} <= volumes(client)
    await other.close()


async def test_the_engine_may_be_killed_while_spaces_run_and_sleep(
    dockerd: Dockerd, engine: DockerEngine, client: docker.APIClient
) -> None:
    awake, asleep = await make(engine, "awake"), await make(engine, "asleep")
    before = container_of(client, awake)["State"]["Pid"]
    stream = await engine.dial(asleep)
    stream.write(hello_frame({"session": "test", "received": 0}))
    assert (await stream.read()).startswith(MAGIC)
    await engine.pause(asleep)

    dockerd.kill()
    with pytest.raises(Unavailable, match="no Docker engine answers"):
        await engine.list()
    assert await asyncio.wait_for(stream.read(), 5) == b""
    stream.close()
    dockerd.start()

    states = {space.name: space.state for space in await engine.list()}
    assert states == {"awake": SpaceState.RUNNING, "asleep": SpaceState.PAUSED}
    assert container_of(client, awake)["State"]["Pid"] == before
    await engine.resume(asleep)
    for space_id in (awake, asleep):
        assert await reach(engine, space_id) == []


async def test_the_cgroup_and_the_engine_count_alike(engine: DockerEngine, client: docker.APIClient) -> None:
    space_id = await make(engine, memory=512 * MIB)
    await reach(engine, space_id)
    await engine.pause(space_id)
    container = container_of(client, space_id)
    mine = counters.from_cgroup(container["State"]["Pid"], container["Id"])
    theirs = counters.from_stats(client.stats(container["Id"], stream=False, one_shot=True))

    assert mine is not None
    assert mine.memory_limit_bytes == theirs.memory_limit_bytes == 512 * MIB
    assert mine.pids == theirs.pids > 0
    assert mine.memory_bytes == pytest.approx(theirs.memory_bytes, rel=0.05)
    assert mine.cpu_seconds == theirs.cpu_seconds > 0


async def test_a_space_killed_for_its_memory_says_so(engine: DockerEngine, client: docker.APIClient) -> None:
    space_id = await make(engine, memory=64 * MIB)
    assert await engine.death(space_id) is None

    run_in(client, space_id, "python3", "-c", "x = bytearray(1 << 30)")
    await engine.stop(space_id)
    death = await engine.death(space_id)

    assert death is not None
    assert (death.exit_code, death.oom) == (0, False), "a command was killed, the agent ended in peace"


async def test_no_engine_is_known_within_two_seconds(tmp_path: Path) -> None:
    nobody = DockerEngine(INSTALL, docker_host=f"unix://{tmp_path}/docker.sock")
    silent = DockerEngine(INSTALL, docker_host=f"unix://{tmp_path}/silent.sock")
    server = await asyncio.start_unix_server(say_nothing, tmp_path / "silent.sock")
    began = asyncio.get_running_loop().time()
    for engine in (nobody, silent):
        with pytest.raises(Unavailable):
            await engine.connect()
        await engine.close()

    assert asyncio.get_running_loop().time() - began < 2.4
    server.close()
    await asyncio.sleep(1)  # for the server to hang up


async def test_an_engine_that_cannot_be_dialled_is_refused_at_once() -> None:
    with pytest.raises(Unsupported, match="unix socket"):
        DockerEngine(INSTALL, docker_host="ssh://box")
