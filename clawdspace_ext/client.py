"""The verbs on spaces for everybody who is not the daemon: command line, kernels, magics.

Importing this module imports neither an event loop nor a web framework.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import wire
from .errors import Broken
from .remote_process import RemoteProcess
from .spaces import ExecRequest, ExecResult, FileEntry, KeptVolume, RunningCommand, Space, SpaceSpec
from .transport import Incoming, Transport, UnixTransport

#: Seconds to wait for an answer, unless a command's own time says otherwise.
TIMEOUT = 300.0
#: Seconds after a command's time limit in which its end is reported.
GRACE = 30.0
MAX_ERROR = 64 * 1024


class SpacesClient:
    """The verbs of ``SpaceHost``, synchronously, over the daemon's socket.  Raises only SpaceError.

    Safe to use from many threads.
    """

    def __init__(self, socket_path: str | Path) -> None:
        self._transport: Transport = UnixTransport(socket_path)

    def create(
        self,
        name: str,
        spec: SpaceSpec | None = None,
        *,
        owner: str | None = None,
        adopt_volume: bool = False,
        engine: str | None = None,
        key: str | None = None,
    ) -> Space:
        """Make a space and start it.  Raises Conflict when the name is taken.

        ``owner`` None is whoever runs the daemon.  The same ``key`` again returns the same space again.
        """
        body = wire.create_to_json(name, spec or SpaceSpec(), adopt_volume=adopt_volume, engine=engine)
        headers = {wire.PRINCIPAL_HEADER: quote(owner, safe="")} if owner else {}
        return wire.space_from_json(self._post("/api/spaces", body, headers | _keyed(key))["space"])

    def list(self) -> Sequence[Space]:
        """Return every space, by name."""
        return [wire.space_from_json(shape) for shape in self._get("/api/spaces")["spaces"]]

    def get(self, name: str) -> Space:
        """Return one space.  Raises NotFound."""
        return wire.space_from_json(self._get(_path(name))["space"])

    def start(self, name: str) -> Space:
        """Wake or start a space."""
        return self._change(name, "start")

    def pause(self, name: str) -> Space:
        """Put a space to sleep, its memory kept."""
        return self._change(name, "stop")

    def stop(self, name: str) -> Space:
        """End the processes of a space, its files kept."""
        return self._change(name, "halt")

    def destroy(self, name: str, *, remove_volume: bool = False) -> None:
        """Remove a space; its files are kept unless told otherwise.  Raises NotFound."""
        self.request("DELETE", f"{_path(name)}?removeVolume={str(remove_volume).lower()}")

    def exec(self, name: str, request: ExecRequest, *, key: str | None = None) -> ExecResult:
        """Run a command to its end, waking the space if it sleeps.

        The same ``key`` again returns the same result again, without a second run.
        """
        body = wire.command_to_json(request) | {
            "stdin": wire.bytes_to_json(request.stdin, base64=True),
            "encoding": "base64",
        }
        limit = None if request.timeout is None else request.timeout + GRACE
        return wire.exec_from_json(self._post(f"{_path(name)}/exec", body, _keyed(key), limit))

    def open_exec(self, name: str, request: ExecRequest, *, detach: bool = False) -> RemoteProcess:
        """Run a command and follow it; it reads ``request.stdin`` and what is written after.

        ``detach``: it runs on when the process that follows it goes away.
        """
        connection = self._transport.websocket(f"{_path(name)}/exec/stream", {})
        tty = {"cols": request.tty.cols, "rows": request.tty.rows} if request.tty else None
        more = {"tty": tty, "detach": detach or request.detach}
        process = RemoteProcess(connection, wire.command_to_json(request) | more)
        if request.stdin:
            process.write(request.stdin)
        return process

    def attach(self, name: str, process_id: str) -> RemoteProcess:
        """Follow a command again that was started before; it runs on whatever becomes of us.  Raises NotFound."""
        target = f"{_path(name)}/exec/{quote(process_id, safe='')}/stream"
        return RemoteProcess(self._transport.websocket(target, {}), None)

    def commands(self, name: str) -> Sequence[RunningCommand]:
        """Return the commands of a space that run, or ended unseen."""
        return [wire.command_info_from_json(shape) for shape in self._get(f"{_path(name)}/exec")["processes"]]

    def signal(self, name: str, process_id: str, number: int) -> None:
        """Signal a command's process group.  Raises NotFound."""
        self._post(f"{_path(name)}/exec/{quote(process_id, safe='')}/signal", {"number": number}, {})

    def stats(self, name: str) -> dict[str, Any]:
        """Return what a space uses now, in the names of the API."""
        shape: dict[str, Any] = self._get(f"{_path(name)}/stats")["stats"]
        return shape

    # -- files: paths begin with /, which is /workspace ---------------------------------------------------------------

    def list_files(self, name: str, path: str = "/") -> Sequence[FileEntry]:
        """Return what a folder holds, by name.  Raises NotFound."""
        shape = self._get(f"{_path(name)}/files?path={quote(path, safe='')}")
        return [wire.entry_from_json(entry) for entry in shape["entries"]]

    @contextmanager
    def open_file(self, name: str, path: str) -> Iterator[Incoming]:
        """Read a file piece by piece while entered.  Raises NotFound."""
        with self._transport.stream("GET", _file(name, path), None, {"Accept": "application/octet-stream"}) as answer:
            _raise_for(answer)
            yield answer

    def read_file(self, name: str, path: str) -> bytes:
        """Return a file.  Raises NotFound."""
        with self.open_file(name, path) as answer:
            return b"".join(answer)

    def write_file(self, name: str, path: str, content: bytes | Iterable[bytes], size: int | None = None) -> None:
        """Write a file and the folders above it; ``size`` is how many bytes the pieces of ``content`` have in all."""
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            content, size = [content], len(content)
        if size is not None:
            headers["Content-Length"] = str(size)
        with self._transport.stream("PUT", _file(name, path), content, headers) as answer:
            _raise_for(answer)

    def make_folder(self, name: str, path: str) -> None:
        """Make a folder and those above it."""
        self._post(f"{_path(name)}/files/mkdir", {"path": path}, {})

    def move_file(self, name: str, source: str, target: str, *, replace: bool = False) -> None:
        """Rename a file or folder.  Raises Conflict when there is something of that name."""
        self._post(f"{_path(name)}/files/move", {"from": source, "to": target, "replace": replace}, {})

    def delete_file(self, name: str, path: str, *, recursive: bool = False) -> None:
        """Remove a file, an empty folder, or with ``recursive`` any folder."""
        self.request("DELETE", f"{_file(name, path)}&recursive={str(recursive).lower()}")

    def system(self) -> dict[str, Any]:
        """Return facts about the machine and its engine."""
        return self._get("/api/system")

    def kept(self) -> Sequence[KeptVolume]:
        """Return the files that outlived their space."""
        return [wire.kept_from_json(shape) for shape in self._get("/api/volumes")["volumes"]]

    def remove_kept(self, volume_id: str) -> None:
        """Remove kept files.  Raises NotFound."""
        self.request("DELETE", f"/api/volumes/{quote(volume_id, safe='')}")

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = TIMEOUT,
    ) -> dict[str, Any]:
        """Send ``body`` as JSON and return the JSON answered.  Raises the SpaceError that the answer reports."""
        content = None if body is None else wire.dumps(body)
        answer = self._transport.request(method, path, content, headers or {}, timeout)
        try:
            shape = json.loads(answer.body)
        except ValueError:
            shape = None
        if answer.status >= 400:
            raise wire.error_from_json(answer.status, shape)
        if not isinstance(shape, dict):
            raise Broken(f"the answer to {method} {path} is not a JSON object")
        return shape

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _get(self, path: str) -> dict[str, Any]:
        return self.request("GET", path)

    def _post(
        self, path: str, body: object, headers: Mapping[str, str], timeout: float | None = TIMEOUT
    ) -> dict[str, Any]:
        return self.request("POST", path, body, headers, timeout)

    def _change(self, name: str, verb: str) -> Space:
        self._post(f"{_path(name)}/{verb}", None, {})
        return self.get(name)


def _path(name: str) -> str:
    return f"/api/spaces/{quote(name, safe='')}"


def _file(name: str, path: str) -> str:
    return f"{_path(name)}/file?path={quote(path, safe='')}"


def _raise_for(answer: Incoming) -> None:
    """Raise the failure that an answer reports, if it reports one."""
    if answer.status >= 400:
        try:
            shape = json.loads(answer.read(MAX_ERROR))
        except ValueError:
            shape = None
        raise wire.error_from_json(answer.status, shape)


def _keyed(key: str | None) -> dict[str, str]:
    return {wire.KEY_HEADER: key} if key else {}
