"""What nobody should send, on each engine: refused with what is wrong, never a 500, never a half-made space."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import pytest_asyncio
from tornado.httputil import HTTPHeaders

from clawdspace_ext import machine
from clawdspace_ext.handlers.local import local_server
from clawdspace_ext.handlers.upstream import Upstream
from clawdspace_ext.protocols import Engine
from clawdspace_ext.service import Spaces
from support.dockerd import shared_dockerd

pytestmark = pytest.mark.asyncio

SMALL = {"memory": "256m", "cpus": 0.5}
BAD_NAMES = [
    "", ".", "..", "a/b", "../x", "a.b", "-f", "--help", "_a", "a b", "a\n", "x" * 64, "x" * 49, "dev\0", "\0",
    "d\u0435v", "dev\u200b", "\uff44ev", "d\u00e9v", "dev\u0000", "$(id)", "a;b", "\ud800", "\U0001f984",
]  # fmt: skip
BAD_MEMORY = [
    "0",
    "-1",
    "99999g",
    "NaN",
    "2g; rm",
    "inf",
    "1e9",
    "",
    " ",
    "2gg",
    "0x10",
    "1",
    "٤g",
    -1,
    0,
    1e30,
    True,
    [],
    {},
]
BAD_CPUS = [0, -1, 5000, 1e308, "NaN", "Infinity", "-inf", "two", True, [], {}, machine.cpus() + 1]


class Said(NamedTuple):
    """An answer: its status and its JSON."""

    status: int
    body: Any


Ask = Callable[..., Awaitable[Said]]
BuildEngine = Callable[[], Engine]


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest_asyncio.fixture
async def ask(build_engine: BuildEngine, address: Path) -> AsyncIterator[Ask]:
    """Asks the daemon's API over spaces of this engine, and fails on any 500."""
    spaces = Spaces([build_engine()])
    await spaces.begin()
    server = local_server(spaces)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(64)
        listener.setblocking(False)
        server.add_socket(listener)
        upstream = Upstream(lambda: address)

        async def ask(method: str, target: str, body: object = None) -> Said:
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            response = await upstream.fetch(method, target, HTTPHeaders(), content)
            said = Said(response.code, json.loads(response.body))
            assert said.status not in (500, 502), (method, target, said)
            if said.status >= 400:
                assert said.body["error"], said
                assert said.body["code"], said
            return said

        yield ask
        upstream.close()
        await server.close_all_connections()
        server.stop()
    for space in await spaces.list():
        await spaces.destroy(space.name, remove_volume=True)
    for volume in await spaces.kept():
        await spaces.remove_kept(volume.id)
    await spaces.close()


async def refusals(ask: Ask, field: str, values: list[Any]) -> None:
    """Create with each of these values; each must be refused, and nothing made."""
    for value in values:
        said = await ask("POST", "/api/spaces", {"name": "dev"} | SMALL | {field: value})
        assert (said.status, said.body.get("field")) == (400, field), (value, said)
    assert (await ask("GET", "/api/spaces")).body == {"spaces": []}


async def make(ask: Ask, name: str = "dev") -> None:
    said = await ask("POST", "/api/spaces", {"name": name} | SMALL)
    assert said.status == 201, said


async def test_names_that_are_none_are_refused(ask: Ask) -> None:
    await refusals(ask, "name", [name for name in BAD_NAMES if name != "\ud800"])
    assert (await ask("POST", "/api/spaces", {"name": "\ud800"})).status == 400
    for value in (None, 1, True, ["dev"], {}):
        said = await ask("POST", "/api/spaces", {"name": value})
        assert (said.status, said.body["field"]) == (400, "name")


async def test_names_that_are_none_are_refused_in_paths(ask: Ask) -> None:
    for name in BAD_NAMES:
        if name in ("", "\ud800"):
            continue
        for method, verb in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("POST", "/start"), ("POST", "/exec")):
            said = await ask(method, f"/api/spaces/{quote(name, safe='')}{verb}", {"command": "true"} if verb else None)
            assert said.status in (400, 404), (name, verb, said)


async def test_amounts_of_memory_that_are_none_are_refused(ask: Ask) -> None:
    await refusals(ask, "memory", BAD_MEMORY)


async def test_more_memory_than_the_machine_has_is_refused_with_how_much_it_has(ask: Ask) -> None:
    said = await ask("POST", "/api/spaces", {"name": "dev", "memory": "99999g"})

    assert machine.gigabytes(machine.memory().total) in said.body["remedy"]


async def test_numbers_of_cpus_that_are_none_are_refused(ask: Ask) -> None:
    await refusals(ask, "cpus", BAD_CPUS)
    for raw in (b'{"name":"dev","cpus":NaN}', b'{"name":"dev","cpus":Infinity}', b'{"name":"dev","cpus":1e999}'):
        assert (await ask("POST", "/api/spaces", raw)).status == 400


async def test_fields_that_nobody_knows_are_refused_by_name(ask: Ask) -> None:
    for field in ("privileged", "Name", "binds", "capAdd", "memory_", "__proto__", ""):
        said = await ask("POST", "/api/spaces", {"name": "dev", field: True})
        assert said.status == 400, said
        assert f"{field!r}" in said.body["error"] or not field
    assert (await ask("GET", "/api/spaces")).body == {"spaces": []}


async def test_bodies_that_are_no_objects_are_refused(ask: Ask) -> None:
    deep = (b"[" * 100_000, b'{"a":' * 50_000)
    for raw in (b"[]", b"null", b'"x"', b"1", b"{", b"\xff\xfe", b"{'a':1}", b'{"name":"dev"} {}', *deep):
        for path in ("/api/spaces", "/api/spaces/dev/exec"):
            said = await ask("POST", path, raw)
            assert said.status == 400, (raw[:20], said)


async def test_environments_that_are_none_are_refused(ask: Ask) -> None:
    for env in ({"A=B": "x"}, {"": "x"}, {"1A": "x"}, {"A": "x\0y"}, {"A": 1}, {"A": None}, ["A=1"], "A=1"):
        said = await ask("POST", "/api/spaces", {"name": "dev", "env": env} | SMALL)
        assert said.status == 400, (env, said)
        assert said.body["field"].startswith("env"), (env, said)


async def test_images_that_are_none_are_refused_and_leave_nothing(ask: Ask) -> None:
    for image in ("no-such-image:nowhere", "../x", "-v", "a b", "x" * 300, "UPPER/case", "a@b"):
        said = await ask("POST", "/api/spaces", {"name": "dev", "image": image} | SMALL)
        assert said.status in (400, 422), (image, said)
        assert said.body["field"] == "image", (image, said)
    assert (await ask("GET", "/api/spaces")).body == {"spaces": []}
    assert (await ask("GET", "/api/volumes")).body == {"volumes": []}


async def test_commands_that_are_none_are_refused(ask: Ask) -> None:
    await make(ask)
    for command in ("", " ", [], [""], None, 1, [1], {"a": 1}, "a\0b", ["a", "b\0"]):
        said = await ask("POST", "/api/spaces/dev/exec", {"command": command})
        assert (said.status, said.body.get("field")) == (400, "command"), (command, said)
    for timeout in (0, -1, 1e300, "5", True):
        said = await ask("POST", "/api/spaces/dev/exec", {"command": "true", "timeout": timeout})
        assert (said.status, said.body.get("field")) == (400, "timeout"), (timeout, said)
    said = await ask("POST", "/api/spaces/dev/exec", {"command": "true", "encoding": "base64", "stdin": "***"})
    assert (said.status, said.body["field"]) == (400, "stdin")


async def test_a_command_of_200_kilobytes_is_refused_with_what_to_do_instead(ask: Ask) -> None:
    await make(ask)
    long = "x" * 200_000
    for command in (f"echo {long}", ["echo", *["x" * 1000] * 200], "\u00e9" * 30_000, "x" * 15_000_000):
        said = await ask("POST", "/api/spaces/dev/exec", {"command": command})
        assert (said.status, said.body["field"]) == (400, "command"), said
        assert "stdin" in said.body["remedy"]
    said = await ask("POST", "/api/spaces/dev/exec", {"command": "true", "env": {"A": long}})
    assert (said.status, said.body["field"]) == (400, "env"), said
    said = await ask("POST", "/api/spaces/dev/exec", {"command": "wc -c", "stdin": long})
    assert said.body["stdout"].strip() == "200000"
    said = await ask("POST", "/api/spaces/dev/exec", {"command": f"printf {'x' * 50_000} | wc -c"})
    assert said.body["stdout"].strip() == "50000"


async def test_output_that_is_no_text_is_marked_and_whole_in_base64(ask: Ask) -> None:
    await make(ask)
    said = await ask("POST", "/api/spaces/dev/exec", {"command": r"printf '\377\376ok'"})
    assert (said.body["stdout"], said.body["invalidUtf8"]) == ("\ufffd\ufffdok", True)
    said = await ask("POST", "/api/spaces/dev/exec", {"command": r"printf '\377\376ok'", "encoding": "base64"})
    assert said.body["stdout"] == "//5vaw=="


async def test_twenty_creates_of_one_name_make_one_space(ask: Ask) -> None:
    said = await asyncio.gather(*(ask("POST", "/api/spaces", {"name": "dev"} | SMALL) for _ in range(20)))

    assert sorted(answer.status for answer in said) == [201] + [409] * 19
    assert all(answer.body["field"] == "name" for answer in said if answer.status == 409)
    assert [space["name"] for space in (await ask("GET", "/api/spaces")).body["spaces"]] == ["dev"]
    assert (await ask("GET", "/api/volumes")).body == {"volumes": []}


async def test_a_command_in_a_space_that_is_gone_or_going_is_refused(ask: Ask) -> None:
    await make(ask)
    execs = [asyncio.create_task(ask("POST", "/api/spaces/dev/exec", {"command": "sleep 30"})) for _ in range(4)]
    await asyncio.sleep(0.5)
    destroying = asyncio.create_task(ask("DELETE", "/api/spaces/dev?removeVolume=true"))
    late = []
    while not destroying.done():
        late.append(await ask("POST", "/api/spaces/dev/exec", {"command": "true"}))

    assert (await destroying).status == 200
    for said in await asyncio.gather(*execs):
        assert said.status in (404, 503), said
    assert {said.status for said in late} <= {200, 404, 503}
    gone = await ask("POST", "/api/spaces/dev/exec", {"command": "true"})
    assert (gone.status, gone.body["code"]) == (404, "not_found")


async def test_verbs_on_a_space_that_is_not_there_are_404(ask: Ask) -> None:
    for method, verb in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("POST", "/start"), ("POST", "/halt")):
        said = await ask(method, f"/api/spaces/nobody{verb}")
        assert (said.status, "name" in said.body, "field" in said.body) == (404, False, False)
        assert said.body["remedy"]


async def test_a_command_wakes_a_space_that_sleeps_or_rests(ask: Ask) -> None:
    await make(ask)
    for verb, state in (("stop", "paused"), ("halt", "stopped")):
        assert (await ask("POST", f"/api/spaces/dev/{verb}")).status == 200
        assert (await ask("GET", "/api/spaces/dev")).body["space"]["status"] == state
        assert (await ask("POST", "/api/spaces/dev/exec", {"command": "echo awake"})).body["stdout"] == "awake\n"


async def test_a_body_of_600_megabytes_is_refused_before_it_is_read(ask: Ask, address: Path) -> None:
    for path in ("/api/spaces", "/api/spaces/dev/exec"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader, writer = await asyncio.open_unix_connection(str(address))
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {600 * 2**20}\r\n\r\n".encode())
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()

        assert said.split(b" ")[1] in (b"400", b"413"), said
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert (await ask("GET", "/api/health")).status == 200


@pytest.mark.docker
@pytest.mark.parametrize("build_engine", ["docker"], indirect=True)
async def test_docker_stopped_under_requests_is_said_within_seconds_and_forgotten_once_it_is_back(ask: Ask) -> None:
    await make(ask)
    dockerd = shared_dockerd()
    under_way = [asyncio.create_task(ask("POST", "/api/spaces", {"name": f"n{number}"} | SMALL)) for number in range(3)]
    await asyncio.sleep(0.05)
    dockerd.kill()
    try:
        began = time.monotonic()
        answers = [*(await asyncio.gather(*under_way)), await ask("POST", "/api/spaces", {"name": "late"} | SMALL)]
        answers.append(await ask("POST", "/api/spaces/dev/halt"))
        assert time.monotonic() - began < 10
        for said in answers:
            assert said.status == 503, said
            assert said.body["remedy"], said
        assert (await ask("POST", "/api/spaces/dev/exec", {"command": "echo on"})).status in (200, 503)
        assert (await ask("GET", "/api/spaces")).status == 200
    finally:
        await asyncio.to_thread(dockerd.start)

    assert (await ask("POST", "/api/spaces/dev/exec", {"command": "echo back"})).body["stdout"] == "back\n"
    said = await ask("POST", "/api/spaces", {"name": "late"} | SMALL)
    assert said.status == 201, said
