"""The verbs on kernels in spaces.

What a client needs to connect, sockets and a key, is given out on the daemon's own socket only.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ..relay import Kernels
from ..relay.kernel import Kernel
from ..requests import read_body
from .route import Reply, Request, Route, Verb


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True)


class StartKernelBody(_Body):
    """``POST /api/space-kernels``."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    owner_pid: Annotated[int, Field(gt=0)]
    space: str | None = None
    env: Mapping[str, str] = {}


class ShutdownKernelBody(_Body):
    """``POST /api/space-kernels/{id}/shutdown``."""

    now: bool = False
    restart: bool = False


class SignalKernelBody(_Body):
    """``POST /api/space-kernels/{id}/signal``."""

    signal: Annotated[int, Field(gt=0, lt=signal.NSIG)]


async def list_kernels(kernels: Kernels, request: Request) -> Reply:
    """Every kernel, or those of one space."""
    return Reply({"kernels": [kernel_to_json(kernel) for kernel in kernels.list(request.query.get("space"))]})


async def get(kernels: Kernels, request: Request) -> Reply:
    """One kernel."""
    return Reply({"kernel": kernel_to_json(kernels.get(request.path["id"]))})


async def start(kernels: Kernels, request: Request) -> Reply:
    """A kernel in a space, or in a throwaway space of its own, and how to connect to it."""
    body = read_body(StartKernelBody, request.body)
    kernel = await kernels.start(body.id, body.space, owner_pid=body.owner_pid, env=body.env, user=request.principal)
    return Reply({"kernel": kernel_to_json(kernel), "connection": kernel.connection_info}, status=201)


async def interrupt(kernels: Kernels, request: Request) -> Reply:
    """KeyboardInterrupt in the running cell."""
    await kernels.get(request.path["id"]).signal(signal.SIGINT)
    return Reply({"message": "Kernel interrupted"})


async def send_signal(kernels: Kernels, request: Request) -> Reply:
    """Any signal, to the kernel's process group."""
    body = read_body(SignalKernelBody, request.body)
    await kernels.get(request.path["id"]).signal(body.signal)
    return Reply({"message": "Kernel signalled"})


async def restart(kernels: Kernels, request: Request) -> Reply:
    """A new process behind the same sockets."""
    return Reply({"kernel": kernel_to_json(await kernels.restart(request.path["id"]))})


async def shutdown(kernels: Kernels, request: Request) -> Reply:
    """Its process ended; it can be started again under the same id."""
    body = read_body(ShutdownKernelBody, request.body)
    kernel = kernels.get(request.path["id"])
    await (kernel.kill() if body.now else kernel.shutdown(restart=body.restart))
    return Reply({"kernel": kernel_to_json(kernel)})


async def remove(kernels: Kernels, request: Request) -> Reply:
    """Ended and forgotten, its throwaway space with it."""
    await kernels.remove(request.path["id"])
    return Reply({"message": "Kernel removed"})


def kernel_to_json(kernel: Kernel) -> dict[str, Any]:
    """Return a kernel as the API shows it."""
    ending = kernel.ending
    return {
        "id": kernel.record.id,
        "space": kernel.record.space,
        "throwaway": kernel.record.ephemeral,
        "state": kernel.state.value,
        "exitCode": ending.exit_code if ending else None,
        "reason": ending.reason if ending else None,
    }


ROUTES = [
    Route("GET", "/api/space-kernels", "read", list_kernels),
    Route("POST", "/api/space-kernels", "execute", start, local=True),
    Route("GET", "/api/space-kernels/{id}", "read", get),
    Route("DELETE", "/api/space-kernels/{id}", "write", remove),
    Route("POST", "/api/space-kernels/{id}/interrupt", "execute", interrupt),
    Route("POST", "/api/space-kernels/{id}/restart", "execute", restart),
    Route("POST", "/api/space-kernels/{id}/shutdown", "execute", shutdown, local=True),
    Route("POST", "/api/space-kernels/{id}/signal", "execute", send_signal, local=True),
]


def routes_of(kernels: Kernels) -> list[Route]:
    """Return the routes with ``kernels`` as their host, whatever the host of the server is."""
    return [replace(route, verb=partial(_asked_of, kernels, route.verb)) for route in ROUTES]


async def _asked_of(kernels: Kernels, verb: Verb, _host: object, request: Request) -> Reply:
    return await verb(kernels, request)
