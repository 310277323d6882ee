"""Files of a space's workspace, over its link: listed, read, written and moved as the API names them.

Paths begin with ``/``, which is /workspace, and cannot leave it.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import Broken, Conflict, InvalidRequest, NotFound, Refused, SpaceError
from .flow import Chunk, Flow
from .link import Link
from .spaces import FileEntry

MAX_PATH = 4096
_TYPES = frozenset({"file", "dir", "symlink", "other"})
_KINDS: dict[str, type[SpaceError]] = {
    "not_found": NotFound,
    "exists": Conflict,
    "not_empty": Conflict,
    "no_space": Conflict,
    "invalid": InvalidRequest,
    "outside": InvalidRequest,
    "is_directory": InvalidRequest,
    "too_many": InvalidRequest,
    "denied": InvalidRequest,
    "read_only": InvalidRequest,
}
_REMEDIES = {
    "outside": "name something below /workspace",
    "exists": "choose another name, or replace it",
    "not_empty": "remove it with recursive",
    "no_space": "remove something first",
}


def inner_path(path: str, field: str = "path") -> str:
    """Return a path of the workspace, normalised.  Raises InvalidRequest for one that cannot be there."""
    if "\0" in path:
        raise InvalidRequest("a path cannot hold a NUL character", field=field)
    if len(path.encode("utf-8", "replace")) > MAX_PATH:
        raise InvalidRequest(f"a path has at most {MAX_PATH} bytes", field=field)
    if ".." in path.split("/"):
        raise InvalidRequest("a path cannot go up by '..'", field=field, remedy="write it from /, which is /workspace")
    return posixpath.normpath("/" + path.lstrip("/"))


@dataclass
class OpenFile:
    """A file being read: ``size`` bytes in all, ``length`` of them asked for."""

    size: int
    length: int
    _flow: Flow

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what was asked for, exactly.  Raises Broken when the file gives less."""
        left = self.length
        try:
            while left and isinstance(item := await self._flow.read(), Chunk):
                data = item.data[:left]
                left -= len(data)
                yield data
        finally:
            self.close()
        if left:
            raise Broken("the file became shorter while it was read")

    def close(self) -> None:
        """Read no further."""
        self._flow.reset()


class SpaceFiles:
    """The files behind a link.  Raises NotFound, Conflict or InvalidRequest with the field ``path``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def list(self, path: str) -> Sequence[FileEntry]:
        """Return what a folder holds, by name."""
        told = await self._ask("list", path=inner_path(path))
        if not isinstance(told, list):
            raise Broken("the space listed a folder in a shape that is not known")
        return [_entry(inner_path(path), entry) for entry in told]

    async def size(self, path: str) -> int:
        """Return the bytes of a file; links are followed."""
        return _size(await self._ask("stat", path=inner_path(path)))

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> OpenFile:
        """Open a file from ``offset``, for at most ``length`` bytes."""
        args: dict[str, Any] = _args(path=inner_path(path)) | {"offset": offset}
        flow = await self._link.open("read", args if length is None else args | {"length": length})
        try:
            told = await flow.read()
        except Refused as error:
            raise _explained(error) from None
        size = _size(told)
        left = max(0, size - offset)
        return OpenFile(size, left if length is None else min(left, length), flow)

    async def write(self, path: str, chunks: AsyncIterable[bytes]) -> int:
        """Put a file in place once all of it is there, and return its size; nothing is left when that fails."""
        flow = await self._link.open("write", _args(path=inner_path(path)) | {"sync": False})
        done = False
        try:
            async for chunk in chunks:
                await flow.write(chunk)
            flow.end()
            size = _size(await flow.read())
            done = True
            return size
        except Refused as error:
            raise _explained(error) from None
        finally:
            if not done:
                flow.reset()

    async def mkdir(self, path: str) -> None:
        """Make a folder and those above it; one that is there is no error."""
        await self._ask("mkdir", path=inner_path(path))

    async def move(self, source: str, target: str, *, replace: bool) -> None:
        """Rename a file or folder; Conflict when something is there, unless ``replace``."""
        await self._ask("move", {"replace": replace}, path=inner_path(source, "from"), to=inner_path(target, "to"))

    async def delete(self, path: str, *, recursive: bool) -> None:
        """Remove a file, an empty folder, or with ``recursive`` any folder."""
        await self._ask("delete", {"recursive": recursive}, path=inner_path(path))

    async def _ask(self, op: str, more: dict[str, Any] | None = None, **paths: str) -> Any:
        try:
            return await self._link.call(op, _args(**paths) | (more or {}))
        except Refused as error:
            raise _explained(error) from None


def _args(**paths: str) -> dict[str, Any]:
    return {"within": "."} | {name: "." + path for name, path in paths.items()}


def _explained(error: Refused) -> SpaceError:
    kind = _KINDS.get(error.reason or "")
    if kind is None:
        return error
    message = "the path leads out of /workspace" if error.reason == "outside" else error.message
    return kind(message, field="path", reason=error.reason, remedy=_REMEDIES.get(error.reason or ""))


def _size(told: object) -> int:
    """Return the size in what a space told, which may be anything."""
    size = told.get("size") if isinstance(told, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise Broken("the space told of a file in a shape that is not known")
    return size


def _entry(folder: str, told: Any) -> FileEntry:
    try:
        name, kind, mtime = str(told["name"]), str(told["type"]), told["mtimeMs"]
    except (TypeError, KeyError):
        raise Broken("the space listed a folder in a shape that is not known") from None
    if kind not in _TYPES or "/" in name or name in ("", ".", "..") or not isinstance(mtime, int):
        raise Broken("the space listed a folder in a shape that is not known")
    return FileEntry(name, posixpath.join(folder, name), kind, _size(told), mtime)
