"""Files of a workspace.  A sleeping space is woken.

What a space holds is anybody's: it is served as an attachment that no browser runs or guesses about.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterable, AsyncIterator
from http import HTTPStatus
from typing import Protocol
from urllib.parse import quote

from ..errors import InvalidRequest
from ..link import Link
from ..requests import FileBody, FolderBody, MoveBody, read_body
from ..space_files import SpaceFiles, inner_path
from ..spaces import check_name
from ..wire import dumps, entry_to_json, quoted
from .route import JSON, MAX_BODY, Download, Reply, Request, Route

#: Bytes of a file in a JSON answer: unless said otherwise, and at most.
DEFAULT_BYTES = 256 * 1024
MAX_BYTES = 8 * 1024 * 1024

RAW = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


class HasLinks(Protocol):
    """What these verbs need of a host."""

    async def link(self, name: str) -> Link:
        """Return the link of a space, waking it."""


async def list_files(host: HasLinks, request: Request) -> Reply:
    """What a folder holds."""
    path = inner_path(request.query.get("path", "/"))
    entries = await (await _files(host, request)).list(path)
    return Reply({"path": path, "entries": [entry_to_json(entry) for entry in entries]})


async def read(host: HasLinks, request: Request) -> Reply:
    """A file: the first part of it as JSON, or with ``Accept: application/octet-stream`` all of it as it is."""
    path = _path(request)
    limit = _limit(request)
    files = await _files(host, request)
    if RAW in request.headers.get("accept", ""):
        return await _raw(files, path, request.headers.get("range", ""))
    found = await files.read(path, 0, limit)
    content = b"".join([chunk async for chunk in found.chunks()])
    return Reply(
        {"path": path, "contentBase64": b64encode(content).decode("ascii"), "truncated": found.size > found.length}
    )


async def write(host: HasLinks, request: Request) -> Reply:
    """A file's new content, as JSON or as it is; in place once all of it has come."""
    path = _path(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        content = read_body(FileBody, await _collected(request.chunks)).content()
        await (await _files(host, request)).write(path, _one(content))
    else:
        await (await _files(host, request)).write(path, request.chunks)
    return Reply({"message": "OK"})


async def delete(host: HasLinks, request: Request) -> Reply:
    """A file or folder, gone."""
    path = _path(request)
    await (await _files(host, request)).delete(path, recursive=request.flag("recursive"))
    return Reply({"message": "OK"})


async def mkdir(host: HasLinks, request: Request) -> Reply:
    """A folder, and those above it."""
    path = inner_path(read_body(FolderBody, request.body).path)
    await (await _files(host, request)).mkdir(path)
    return Reply({"message": "OK"})


async def move(host: HasLinks, request: Request) -> Reply:
    """A file or folder by another name."""
    body = read_body(MoveBody, request.body)
    source, target = inner_path(body.source, "from"), inner_path(body.to, "to")
    await (await _files(host, request)).move(source, target, replace=body.replace)
    return Reply({"message": "OK"})


async def _files(host: HasLinks, request: Request) -> SpaceFiles:
    return SpaceFiles(await host.link(check_name(request.path["name"])))


def _path(request: Request) -> str:
    path = inner_path(request.query.get("path", ""))
    if path == "/":
        raise InvalidRequest("no file is named", field="path", remedy="add for instance ?path=/notes.txt")
    return path


def _limit(request: Request) -> int:
    text = request.query.get("maxBytes", str(DEFAULT_BYTES))
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidRequest(f"{quoted(text)} is not a number of bytes", field="maxBytes")
    return min(int(text), MAX_BYTES)


async def _raw(files: SpaceFiles, path: str, wanted: str) -> Download:
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.rpartition('/')[2], safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
        "Accept-Ranges": "bytes",
    }
    span = _RANGE.fullmatch(wanted.strip())
    if span is None or span.group(1, 2) == (None, None):
        whole = await files.read(path)
        return Download(None, 200, RAW, headers | {"Content-Length": str(whole.length)}, whole.chunks())
    size = await files.size(path)
    first, last = _span(span[1], span[2], size)
    if first > last:
        return _unsatisfiable(size)
    part = await files.read(path, first, last - first + 1)
    headers["Content-Range"] = f"bytes {first}-{first + part.length - 1}/{part.size}"
    headers["Content-Length"] = str(part.length)
    return Download(None, HTTPStatus.PARTIAL_CONTENT, RAW, headers, part.chunks())


def _span(first: str | None, last: str | None, size: int) -> tuple[int, int]:
    """Return the first and the last byte that a Range means; the last one is before the first if there are none."""
    if first is None:
        return max(0, size - int(last or 0)), size - 1
    return int(first), min(size - 1, int(last)) if last is not None else size - 1


def _unsatisfiable(size: int) -> Download:
    error = f"the file has {size} bytes, none of them in this range"
    body = dumps({"error": error, "code": "invalid", "field": "Range"})
    headers = {"Content-Length": str(len(body)), "Content-Range": f"bytes */{size}"}
    return Download(None, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, JSON, headers, _one(body))


async def _one(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


async def _collected(chunks: AsyncIterable[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_BODY:
            raise InvalidRequest(
                f"as JSON a file has at most {MAX_BODY} bytes",
                field="contentBase64",
                remedy=f"send it as it is, with Content-Type: {RAW}",
            )
        parts.append(chunk)
    return b"".join(parts)


ROUTES = [
    Route("GET", "/api/spaces/{name}/files", "read", list_files),
    Route("POST", "/api/spaces/{name}/files/mkdir", "write", mkdir),
    Route("POST", "/api/spaces/{name}/files/move", "write", move),
    Route("GET", "/api/spaces/{name}/file", "read", read),
    Route("PUT", "/api/spaces/{name}/file", "write", write, streamed=True),
    Route("DELETE", "/api/spaces/{name}/file", "write", delete),
]
