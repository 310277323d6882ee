"""The verbs on spaces."""

from __future__ import annotations

from ..protocols import SpaceHost
from ..requests import CreateBody, ExecBody, read_body
from ..spaces import check_name
from ..wire import exec_to_json, space_to_json
from .route import Reply, Request, Route


async def list_spaces(host: SpaceHost, _request: Request) -> Reply:
    """Every space, by name."""
    return Reply({"spaces": [space_to_json(space) for space in await host.list()]})


async def create(host: SpaceHost, request: Request) -> Reply:
    """A new space, started."""
    body = read_body(CreateBody, request.body)
    space = await host.create(
        body.name,
        body.spec(),
        owner=request.principal,
        adopt_volume=bool(body.adopt_volume),
        engine=body.engine or None,
    )
    return Reply({"space": space_to_json(space)}, status=201)


async def get(host: SpaceHost, request: Request) -> Reply:
    """One space."""
    return Reply({"space": space_to_json(await host.get(_name(request)))})


async def destroy(host: SpaceHost, request: Request) -> Reply:
    """Gone; its files are kept unless told otherwise."""
    await host.destroy(_name(request), remove_volume=request.flag("removeVolume"))
    return Reply({"message": "Space destroyed"})


async def start(host: SpaceHost, request: Request) -> Reply:
    """Awake."""
    await host.start(_name(request))
    return Reply({"message": "Space started"})


async def stop(host: SpaceHost, request: Request) -> Reply:
    """Asleep, its memory kept: what old clients call stopping."""
    await host.pause(_name(request))
    return Reply({"message": "Space paused"})


async def halt(host: SpaceHost, request: Request) -> Reply:
    """At rest, its memory given back."""
    await host.stop(_name(request))
    return Reply({"message": "Space stopped"})


async def execute(host: SpaceHost, request: Request) -> Reply:
    """A command, run to its end."""
    body = read_body(ExecBody, request.body)
    result = await host.exec(_name(request), body.exec_request())
    return Reply(exec_to_json(result, base64=body.base64))


def _name(request: Request) -> str:
    return check_name(request.path["name"])


ROUTES = [
    Route("GET", "/api/spaces", "read", list_spaces),
    Route("POST", "/api/spaces", "write", create, keyed=True),
    Route("GET", "/api/spaces/{name}", "read", get),
    Route("DELETE", "/api/spaces/{name}", "write", destroy),
    Route("POST", "/api/spaces/{name}/start", "write", start),
    Route("POST", "/api/spaces/{name}/stop", "write", stop),
    Route("POST", "/api/spaces/{name}/halt", "write", halt),
    Route("POST", "/api/spaces/{name}/exec", "execute", execute, keyed=True),
]
