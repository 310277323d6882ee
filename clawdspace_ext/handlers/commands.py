"""Commands of a space that run, or ended unseen: listed and signalled by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..requests import SignalBody, read_body
from ..spaces import RunningCommand, check_name
from ..wire import command_info_to_json
from .route import Reply, Request, Route


class HasCommands(Protocol):
    """What these verbs need of a host."""

    async def commands(self, name: str) -> Sequence[RunningCommand]:
        """Return the commands of a space, oldest first."""

    async def signal(self, name: str, process_id: str, number: int) -> None:
        """Signal a command's process group.  Raises NotFound."""


async def list_commands(host: HasCommands, request: Request) -> Reply:
    """What runs, oldest first; looking never wakes a space."""
    found = await host.commands(check_name(request.path["name"]))
    return Reply({"processes": [command_info_to_json(command) for command in found]})


async def send_signal(host: HasCommands, request: Request) -> Reply:
    """A signal for one of them."""
    body = read_body(SignalBody, request.body)
    await host.signal(check_name(request.path["name"]), request.path["id"], body.number)
    return Reply({"message": "Signal sent"})


ROUTES = [
    Route("GET", "/api/spaces/{name}/exec", "read", list_commands),
    Route("POST", "/api/spaces/{name}/exec/{id}/signal", "execute", send_signal),
]
