"""Calls to a Docker engine: on a small pool of threads, each with a deadline, every failure translated."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from docker import APIClient
from docker.errors import APIError, DockerException
from docker.utils import version_lt

from ...errors import Broken, Conflict, InvalidRequest, NotFound, SpaceError, Unavailable, Unsupported

T = TypeVar("T")

#: The first with private cgroup namespaces: Docker 20.10.
OLDEST_API = "1.41"
DEFAULT_HOST = "unix:///var/run/docker.sock"
THREADS = 8
CALL_SECONDS = 15.0
CREATE_SECONDS = 30.0
CONNECT_SECONDS = 2.0

_BY_STATUS: dict[int, type[SpaceError]] = {400: InvalidRequest, 404: NotFound, 409: Conflict}


class DockerApi:
    """One Docker engine, reached at ``host`` (DOCKER_HOST or the usual socket when None).

    ``run`` is the way in: it calls a function with the client of docker-py on a thread.  Raises Unsupported for a host
    that no stream to a space can be dialled at.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        if not self.host.startswith("unix://"):
            raise Unsupported(
                f"spaces on a Docker engine at {self.host} are not supported yet",
                remedy="use an engine with a unix socket, or run clawdspace on that machine",
            )
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="clawdspace-docker")
        self._connecting = threading.Lock()
        self._client: APIClient | None = None

    @property
    def socket(self) -> str:
        """The path of the engine's unix socket."""
        return self.host.removeprefix("unix://")

    async def run(self, call: Callable[[APIClient], T], *, seconds: float = CALL_SECONDS) -> T:
        """Return ``call(client)``.  Raises Unavailable when that takes longer than ``seconds``."""
        job = functools.partial(self._run, call)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        except TimeoutError:
            raise Unavailable(f"the Docker engine at {self.host} did not answer within {seconds:g} s") from None

    def _run(self, call: Callable[[APIClient], T]) -> T:
        with translated(self.host):
            with socket.socket(socket.AF_UNIX) as knock:  # docker-py leaks a socket each time nobody listens
                knock.settimeout(CONNECT_SECONDS)
                knock.connect(self.socket)
            with self._connecting:
                if self._client is None:
                    self._client = _negotiated(self.host)
            return call(self._client)

    def close(self) -> None:
        """Release threads and sockets; calls under way are given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()


def _negotiated(host: str) -> APIClient:
    """Return a client that speaks the engine's version of the API.  Raises Unsupported when that is too old."""
    timeout = int(CREATE_SECONDS)
    with contextlib.closing(APIClient(host, version=OLDEST_API, timeout=timeout)) as probe:
        version = str(probe.version(api_version=False)["ApiVersion"])
    if version_lt(version, OLDEST_API):
        raise Unsupported(f"the Docker engine at {host} is too old", remedy="install Docker 20.10 or newer")
    return APIClient(host, version=version, timeout=timeout)


def create_container(client: APIClient, config: Mapping[str, Any], name: str | None = None) -> str:
    """Create a container from a body in the engine's own words, and return its id."""
    created: dict[str, Any] = client.create_container_from_config(config, name)  # type: ignore[no-untyped-call]  # the stubs lack it
    return str(created["Id"])


def image_id(client: APIClient, image: str) -> str:
    """Return the id behind an image's name."""
    inspected: dict[str, Any] = client.inspect_image(image)  # type: ignore[no-untyped-call]  # the stubs lack it
    return str(inspected["Id"])


@contextlib.contextmanager
def translated(host: str) -> Iterator[None]:
    """Turn what docker-py, requests and sockets raise into SpaceError."""
    try:
        yield
    except APIError as error:
        kind = _BY_STATUS.get(error.status_code or 500, Unavailable if error.is_server_error() else Broken)
        raise kind(f"Docker: {error.explanation or error}") from error
    except (DockerException, OSError) as error:  # what requests raises is an OSError
        raise Unavailable(
            f"no Docker engine answers at {host}: {error}",
            remedy="start Docker, or set DOCKER_HOST; on Linux your user must be allowed to use its socket",
        ) from error
