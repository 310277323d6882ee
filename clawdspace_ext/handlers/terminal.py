"""A login shell in a terminal, over a websocket.

Binary messages both ways are bytes of the terminal.  A text message is ``{"type":"input","data":…}``,
``{"type":"resize","cols":80,"rows":24}`` or ``{"type":"ping"}``, which is answered by ``{"type":"pong"}``; any other
text is keystrokes.  ``?cols=80&rows=24`` is the size to begin with.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import InvalidRequest
from ..protocols import Process
from ..spaces import LOGIN_SHELL, ExecRequest, TerminalSize, check_name
from ..wire import quoted
from .exec_stream import OpensExec, converse
from .route import Request, Socket, SocketRoute

MAX_SIZE = 10000
_TERM = {"TERM": "xterm-256color"}


async def terminal(host: OpensExec, request: Request, socket: Socket) -> None:
    """Run a shell, which gets SIGHUP when its client goes away."""
    size = TerminalSize(_number(request, "cols", 80), _number(request, "rows", 24))
    name = check_name(request.path["name"])
    process = await host.open_exec(name, ExecRequest(LOGIN_SHELL, env=_TERM, tty=size))
    await converse(process, socket, _show(process, socket), _type(process, socket), detach=False)


async def _show(process: Process, socket: Socket) -> None:
    async for _, data in process.output():
        await socket.send(data)


async def _type(process: Process, socket: Socket) -> None:
    """Take messages until the client is gone."""
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            await process.write(message)
            continue
        match _known(message):
            case {"type": "input", "data": str(data)}:
                await process.write(data.encode("utf-8", "replace"))
            case {"type": "resize", "cols": int(cols), "rows": int(rows)}:
                if 0 < cols <= MAX_SIZE and 0 < rows <= MAX_SIZE:
                    process.resize(cols, rows)
            case {"type": "ping"}:
                await socket.send('{"type":"pong"}')
            case _:
                await process.write(message.encode("utf-8", "replace"))


def _known(message: str) -> Any:
    """Return what a message says, None if it is no JSON."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def _number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= MAX_SIZE):
        raise InvalidRequest(f"{name}={quoted(text)} is not the size of a terminal", field=name)
    return int(text)


ROUTES = [SocketRoute("/api/spaces/{name}/terminal", "execute", terminal)]
