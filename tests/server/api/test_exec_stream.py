"""A command followed over a websocket, through a Jupyter server."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError

from support.api import Api
from support.fake_daemon import FakeDaemon

Follow = Callable[..., Awaitable[WebSocketClientConnection]]


@pytest.fixture
def follow(jp_ws_fetch: Any, api: Api) -> Follow:
    """Start a command in a space named dev, made if need be."""

    async def start(command: Any, **fields: Any) -> WebSocketClientConnection:
        await api("POST", "/api/spaces", {"name": "dev"})
        socket: WebSocketClientConnection = await jp_ws_fetch("api", "spaces", "dev", "exec", "stream")
        await socket.write_message(json.dumps({"command": command, **fields}))
        return socket

    return start


async def said(socket: WebSocketClientConnection) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Everything up to the end: messages, stdout, stderr."""
    messages: list[dict[str, Any]] = []
    outputs = {1: bytearray(), 2: bytearray()}
    while (message := await socket.read_message()) is not None:
        if isinstance(message, bytes):
            outputs[message[0]] += message[1:]
        else:
            messages.append(json.loads(message))
    socket.close()
    return messages, bytes(outputs[1]), bytes(outputs[2])


async def test_a_command_tells_its_start_its_outputs_and_its_end(follow: Follow, daemon: FakeDaemon) -> None:
    socket = await follow("echo out; echo err >&2; exit 5", env={"X": "1"}, cwd="sub", timeout=9)

    messages, stdout, stderr = await said(socket)

    assert messages == [
        {"type": "started", "id": daemon.host.processes[0].id},
        {"type": "exit", "exitCode": 5},
    ]
    assert (stdout, stderr) == (b"out\n", b"err\n")
    request = daemon.host.last_exec
    assert request is not None
    assert (request.env, request.cwd, request.timeout, request.tty) == ({"X": "1"}, "sub", 9, None)


async def test_stdin_is_bytes_and_has_an_end(follow: Follow) -> None:
    socket = await follow(["cat"])
    await socket.write_message(b"a\x00", binary=True)
    await socket.write_message(b"\xffb", binary=True)
    await socket.write_message('{"type":"eof"}')

    messages, stdout, _ = await said(socket)

    assert stdout == b"a\x00\xffb"
    assert messages[-1] == {"type": "exit", "exitCode": 0}


async def test_signals_and_sizes_arrive(follow: Follow, daemon: FakeDaemon) -> None:
    socket = await follow(["sleep", "60"], tty={"cols": 90, "rows": 20})
    await socket.write_message('{"type":"resize","cols":100,"rows":30}')
    await socket.write_message('{"type":"signal","number":2}')

    messages, _, _ = await said(socket)

    assert messages[-1] == {"type": "exit", "exitCode": 130, "signal": 2}
    assert daemon.host.processes[0].sizes == [(100, 30)]
    assert daemon.host.last_exec is not None
    assert daemon.host.last_exec.tty is not None
    assert (daemon.host.last_exec.tty.cols, daemon.host.last_exec.tty.rows) == (90, 20)


@pytest.mark.parametrize(
    ("first", "code", "field"),
    [
        ('{"command": ""}', "invalid", "command"),
        ('{"command": "x", "stdin": "y"}', "invalid", "stdin"),
        ('{"command": "x", "tty": {"cols": 0, "rows": 1}}', "invalid", "tty.cols"),
        ("not json", "invalid", None),
        (b"bytes", "invalid", "command"),
        ('{"command": ["/nowhere"]}', "refused", None),
    ],
)
async def test_what_cannot_be_run_is_said_in_json(
    api: Api, jp_ws_fetch: Any, first: str | bytes, code: str, field: str | None
) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})
    socket = await jp_ws_fetch("api", "spaces", "dev", "exec", "stream")
    await socket.write_message(first, binary=isinstance(first, bytes))

    (message,), _, _ = await said(socket)

    assert (message["type"], message["code"], message.get("field")) == ("error", code, field)
    assert message["error"]


async def test_a_missing_space_is_said_in_json(jp_ws_fetch: Any) -> None:
    socket = await jp_ws_fetch("api", "spaces", "nope", "exec", "stream")
    await socket.write_message('{"command":"true"}')

    assert (await said(socket))[0][0]["code"] == "not_found"


@pytest.mark.parametrize(
    "message", ['{"type":"boo"}', "{}", '{"type":"signal","number":99}', "x", '{"type":"eof","a":1}']
)
async def test_a_wrong_message_ends_the_command(follow: Follow, daemon: FakeDaemon, message: str) -> None:
    socket = await follow(["sleep", "60"])
    await socket.write_message(message)

    messages, _, _ = await said(socket)

    assert (messages[-1]["type"], messages[-1]["code"]) == ("error", "invalid")
    assert await _exit_code(daemon) == 128 + signal.SIGHUP


async def test_a_client_that_goes_away_hangs_up(follow: Follow, daemon: FakeDaemon) -> None:
    socket = await follow(["sleep", "60"])
    await socket.read_message()
    socket.close()

    assert await _exit_code(daemon) == 128 + signal.SIGHUP


async def test_a_client_that_vanishes_amid_its_stdin_hangs_up(follow: Follow, daemon: FakeDaemon) -> None:
    """Nothing is read of a client whose stdin is stuck, and yet its absence is noticed."""
    socket = await follow(["sleep", "60"])
    await socket.read_message()
    with pytest.raises((TimeoutError, WebSocketClosedError)):
        async with asyncio.timeout(1):
            for _ in range(1000):
                await socket.write_message(bytes(256 * 1024), binary=True)
    assert socket.protocol is not None
    socket.protocol.stream.close()
    socket.close()

    assert await _exit_code(daemon) == 128 + signal.SIGHUP


async def test_a_detached_command_outlives_its_client(follow: Follow, tmp_path: Path) -> None:
    socket = await follow(f"sleep 0.5; echo done > {tmp_path}/out", detach=True)
    await socket.read_message()
    socket.close()

    deadline = time.monotonic() + 10
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert (tmp_path / "out").read_text() == "done\n"


async def test_a_message_may_not_be_larger_than_a_megabyte(follow: Follow, daemon: FakeDaemon) -> None:
    socket = await follow(["cat"])
    await socket.read_message()
    await socket.write_message(bytes(1024 * 1024 + 1), binary=True)

    assert await socket.read_message() is None
    socket.close()
    assert await _exit_code(daemon) is not None


async def test_every_byte_of_a_long_output_arrives(follow: Follow) -> None:
    socket = await follow("head -c 50000000 /dev/zero | tr '\\0' 'x'")

    _, stdout, _ = await said(socket)

    assert len(stdout) == 50_000_000
    assert stdout.count(b"x") == 50_000_000


async def _exit_code(daemon: FakeDaemon) -> int | None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if daemon.host.processes and daemon.host.processes[0].exit_code is not None:
            return daemon.host.processes[0].exit_code
        await asyncio.sleep(0.02)
    return None
