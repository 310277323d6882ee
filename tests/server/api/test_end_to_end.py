"""From a request to Jupyter, over the daemon's socket and the link, to an agent, and back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from clawdspace_ext.client import SpacesClient
from clawdspace_ext.service import Spaces
from clawdspace_ext.spaces import ExecRequest
from clawdspace_ext.testing import LocalEngine
from support.api import Api
from support.fake_daemon import Served, serving


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Served]:
    """The real spaces, on the real agent without any isolation."""

    @asynccontextmanager
    async def hosting() -> AsyncIterator[Spaces]:
        spaces = Spaces([LocalEngine(tmp_path / "spaces")])
        await spaces.begin()
        yield spaces
        await spaces.close()

    with serving(tmp_path / "daemon.sock", hosting) as served:
        yield served


async def test_a_space_lives_its_life(api: Api) -> None:
    created = await api("POST", "/api/spaces", {"name": "dev", "env": {"GREETING": "hello"}})
    assert (created.status, created.body["space"]["notEnforced"]) == (201, ["memory", "cpus", "pids"])

    said = await api("POST", "/api/spaces/dev/exec", {"command": "printf $GREETING | tee note; exit 3"})
    assert (said.body["stdout"], said.body["exitCode"]) == ("hello", 3)

    for verb, status in (("stop", "paused"), ("start", "running"), ("halt", "stopped")):
        assert (await api("POST", f"/api/spaces/dev/{verb}")).status == 200
        assert (await api("GET", "/api/spaces/dev")).body["space"]["status"] == status

    read = await api("POST", "/api/spaces/dev/exec", {"command": ["cat", "note"]})
    assert read.body["stdout"] == "hello"
    assert (await api("DELETE", "/api/spaces/dev")).status == 200
    (volume,) = (await api("GET", "/api/volumes")).body["volumes"]
    assert volume["id"] == created.body["space"]["volume"]["name"]
    assert (await api("POST", "/api/spaces", {"name": "dev", "adoptVolume": True})).status == 201
    assert (await api("POST", "/api/spaces/dev/exec", {"command": "cat note"})).body["stdout"] == "hello"


async def test_the_machine_and_its_engine_are_described(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    assert (await api("GET", "/api/system")).body["docker"]["containers"] == 0
    found = (await api("GET", "/api/system/capabilities")).body
    assert (found["engine"], found["engines"][0]["notEnforced"]) == ("local", ["memory", "cpus", "pids"])


async def test_a_command_is_followed_and_interrupted(api: Api, jp_ws_fetch: Any) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})
    socket = await jp_ws_fetch("api", "spaces", "dev", "exec", "stream")
    await socket.write_message('{"command":"read line; echo got $line; exec sleep 60"}')
    await socket.write_message(b"it\n", binary=True)

    assert json.loads(await socket.read_message())["type"] == "started"
    assert await socket.read_message() == b"\x01got it\n"
    await socket.write_message('{"type":"signal","number":2}')
    ending = json.loads(await socket.read_message())
    socket.close()

    assert (ending["type"], ending["exitCode"]) == ("exit", 130)


async def test_a_program_that_is_not_there_is_told(api: Api, jp_ws_fetch: Any) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("POST", "/api/spaces/dev/exec", {"command": ["/nowhere"]})
    socket = await jp_ws_fetch("api", "spaces", "dev", "exec", "stream")
    await socket.write_message('{"command":["/nowhere"]}')
    messages = [json.loads(message) async for message in _messages(socket)]
    socket.close()

    assert (answer.status, answer.body["code"], answer.body["reason"]) == (502, "refused", "not_found")
    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"] == answer.body["error"]


async def test_leaving_a_command_ends_it(daemon: Served) -> None:
    client = SpacesClient(daemon.socket_path)
    await asyncio.to_thread(client.create, "dev")
    process = await asyncio.to_thread(client.open_exec, "dev", ExecRequest(("sh", "-c", "echo $$; exec sleep 60")))
    _, pid = await asyncio.to_thread(next, process.output())
    process.close()
    client.close()

    assert await _ended(int(pid))


async def _messages(socket: Any) -> AsyncIterator[str]:
    while (message := await socket.read_message()) is not None:
        yield message


async def _ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()
