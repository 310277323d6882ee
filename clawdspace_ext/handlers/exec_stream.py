"""A command followed while it runs, over a websocket.

The client's first message is JSON, a ``StreamBody``; after that its binary messages are stdin, and its text messages
are ``{"type":"eof"}``, ``{"type":"signal","number":2}`` and ``{"type":"resize","cols":80,"rows":24}``.  It gets
``{"type":"started","id":…}``, binary messages whose first byte is 1 (stdout) or 2 (stderr), and at last
``{"type":"exit","exitCode":…}`` or ``{"type":"error","error":…,"code":…}``.

Whoever follows a command again that runs already has no first message, and gets what is kept of the outputs first.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Protocol

from ..errors import InvalidRequest, Refused, SpaceError
from ..protocols import Process
from ..requests import EndOfInput, Resize, Signal, StreamBody, read_body, read_control
from ..spaces import ExecRequest, check_name
from ..wire import Json, dumps, ending_to_json
from .route import Request, Socket, SocketRoute

#: Seconds that a command whose client has gone is watched, to see the hangup delivered and obeyed.
HANGUP_GRACE = 5.0
_OUTPUTS = {1: "stdout", 2: "stderr"}


class OpensExec(Protocol):
    """What this conversation needs of a host."""

    async def open_exec(self, name: str, request: ExecRequest) -> Process:
        """Run a command and follow it."""

    async def attach(self, name: str, process_id: str) -> Process:
        """Follow a command that was started before."""


async def stream(host: OpensExec, request: Request, socket: Socket) -> None:
    """Run one command.  When its client goes away it gets SIGHUP, unless ``detach`` was asked for."""
    name = check_name(request.path["name"])
    first = await socket.receive()
    if first is None:
        return
    if not isinstance(first, str):
        raise InvalidRequest("the first message must be JSON text that says what to run", field="command")
    body = read_body(StreamBody, first)
    process = await host.open_exec(name, body.exec_request())
    await converse(process, socket, _tell(process, socket), _listen(process, socket), detach=body.detach)


async def attach(host: OpensExec, request: Request, socket: Socket) -> None:
    """Follow a command that was started before; it runs on when this client goes away too."""
    process = await host.attach(check_name(request.path["name"]), request.path["id"])
    await converse(process, socket, _tell(process, socket), _listen(process, socket), detach=True)


async def converse(
    process: Process,
    socket: Socket,
    tell: Coroutine[Any, Any, None],
    listen: Coroutine[Any, Any, None],
    *,
    detach: bool,
) -> None:
    """Carry bytes both ways until the process has ended or its client is gone, and then part from it."""
    ended = False
    try:
        ended = await _until_either(socket, tell, listen)
    except Refused as error:
        ended = error.reason == "taken"  # somebody else follows it now: it must not be hung up on
        raise
    finally:
        if not ended:
            await _part(process, detach=detach)


async def _until_either(socket: Socket, tell: Coroutine[Any, Any, None], listen: Coroutine[Any, Any, None]) -> bool:
    """Return whether all was told before the client went away."""
    telling = asyncio.create_task(tell)
    tasks = {telling, asyncio.create_task(listen), asyncio.create_task(socket.gone())}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return telling in done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _tell(process: Process, socket: Socket) -> None:
    lost = {name: process.lost[channel] for channel, name in _OUTPUTS.items() if process.lost.get(channel)}
    await socket.send(_text({"type": "started", "id": process.id} | ({"lost": lost} if lost else {})))
    async for channel, data in process.output():
        await socket.send(bytes((channel,)) + data)
    ending: Json = {"type": "exit", "exitCode": process.exit_code}
    await socket.send(_text(ending | ending_to_json(process.exit_signal, timed_out=process.timed_out)))


async def _listen(process: Process, socket: Socket) -> None:
    """Take messages until the client is gone."""
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            await process.write(message)
        else:
            _control(process, message)


def _control(process: Process, message: str) -> None:
    match read_control(message):
        case EndOfInput():
            process.end_stdin()
        case Signal(number=number):
            process.signal(number)
        case Resize(cols=cols, rows=rows):
            process.resize(cols, rows)


async def _part(process: Process, *, detach: bool) -> None:
    """Leave a process whose client has gone."""
    if not detach:
        process.signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(HANGUP_GRACE):
                async for _ in process.output():
                    pass
        except (TimeoutError, SpaceError):
            pass  # it chose to outlive its client, or was gone already
    process.detach()


def _text(message: Json) -> str:
    return dumps(message).decode()


ROUTES = [
    SocketRoute("/api/spaces/{name}/exec/stream", "execute", stream),
    SocketRoute("/api/spaces/{name}/exec/{id}/stream", "execute", attach),
]
