"""Files, stats, terminals and commands found again: from a Jupyter server to a real agent."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from tornado.httpclient import HTTPResponse

from clawdspace_ext.service import Spaces
from clawdspace_ext.testing import LocalEngine
from support.api import Api
from support.fake_daemon import Served, serving

RAW = "application/octet-stream"
Fetch = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Served]:
    """The real spaces, on the real agent without any isolation."""

    @asynccontextmanager
    async def hosting() -> AsyncIterator[Spaces]:
        spaces = Spaces([LocalEngine(tmp_path / "spaces")])
        await spaces.begin()
        yield spaces
        await spaces.close()

    with serving(tmp_path / "daemon.sock", hosting) as served:
        yield served


@pytest.fixture
def dev(api: Api, tmp_path: Path) -> Callable[[], Awaitable[Path]]:
    """Makes the space dev and returns its workspace."""

    async def make() -> Path:
        made = await api("POST", "/api/spaces", {"name": "dev"})
        assert made.status == 201
        return tmp_path / "spaces" / str(made.body["space"]["id"])

    return make


@pytest.fixture
def raw(jp_serverapp: Any, http_server_client: Any, jp_base_url: str, jp_auth_header: dict[str, str]) -> Fetch:
    """Ask for a file of dev as it is, whatever the status."""

    async def fetch(path: str, method: str = "GET", body: Any = None, **headers: str) -> HTTPResponse:
        found: HTTPResponse = await http_server_client.fetch(
            f"{jp_base_url.rstrip('/')}/api/spaces/dev/file?path={quote(path)}",
            method=method,
            body=body,
            headers=jp_auth_header | {name.replace("_", "-"): value for name, value in headers.items()},
            raise_error=False,
            allow_nonstandard_methods=True,
        )
        return found

    return fetch


@pytest_asyncio.fixture
async def join(jp_ws_fetch: Any) -> AsyncIterator[Any]:
    """Opens websockets, and closes them in the end."""
    opened = []

    async def connect(*parts: str, **options: Any) -> Any:
        opened.append(await jp_ws_fetch(*parts, **options))
        return opened[-1]

    yield connect
    for socket in opened:
        socket.close()


async def test_a_file_is_written_listed_read_moved_and_removed(api: Api, dev: Any) -> None:
    workspace = await dev()
    url = "/api/spaces/dev/file?path=/in/notes%20%C3%A9.txt"

    written = await api("PUT", url, {"contentBase64": base64.b64encode(b"hello").decode()}, headers=None)
    listed = (await api("GET", "/api/spaces/dev/files?path=/in")).body

    assert written.status == 200
    assert written.body == {"message": "OK"}
    assert listed["path"] == "/in"
    (entry,) = listed["entries"]
    assert entry == entry | {"name": "notes é.txt", "path": "/in/notes é.txt", "type": "file", "size": 5}
    read = await api("GET", url + "&maxBytes=4")
    assert read.body == {"path": "/in/notes é.txt", "contentBase64": "aGVsbA==", "truncated": True}
    assert (await api("GET", url)).body["truncated"] is False

    assert (await api("POST", "/api/spaces/dev/files/mkdir", {"path": "/out/deep"})).status == 200
    move = {"from": "/in/notes é.txt", "to": "/out/deep/n"}
    assert (await api("POST", "/api/spaces/dev/files/move", move)).status == 200
    assert (workspace / "out/deep/n").read_bytes() == b"hello"
    assert (await api("DELETE", "/api/spaces/dev/file?path=/out")).status == 409
    assert (await api("DELETE", "/api/spaces/dev/file?path=/out&recursive=true")).status == 200
    assert not (workspace / "out").exists()
    assert (await api("GET", url)).status == 404


@pytest.fixture
def api(api: Api, jp_auth_header: dict[str, str]) -> Api:
    """As ever, and says that a body is JSON, which matters to a file."""

    async def ask(method: str, path: str, body: object = None, headers: Any = None) -> Any:
        kind = {"Content-Type": "application/json"} if method == "PUT" else {}
        return await api(method, path, body, headers=jp_auth_header | kind | (headers or {}))

    return ask


async def test_bytes_pass_as_they_are_both_ways(dev: Any, raw: Fetch) -> None:
    workspace = await dev()
    content = os.urandom(3_000_000)

    assert (await raw("/b", "PUT", content, Content_Type=RAW)).code == 200
    got = await raw("/b", Accept=RAW)

    assert (workspace / "b").read_bytes() == content == got.body
    assert got.headers["Content-Type"] == RAW
    assert got.headers["Content-Disposition"] == "attachment; filename*=UTF-8''b"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Security-Policy"] == "sandbox"


@pytest.mark.parametrize(
    ("asked", "span"),
    [("bytes=2-5", (2, 5)), ("bytes=7-", (7, 9)), ("bytes=-3", (7, 9)), ("bytes=0-99", (0, 9)), ("bytes=-99", (0, 9))],
)
async def test_a_range_is_answered_with_a_part(dev: Any, raw: Fetch, asked: str, span: tuple[int, int]) -> None:
    (await dev() / "ten").write_bytes(b"0123456789")

    part = await raw("/ten", Accept=RAW, Range=asked)

    assert part.code == 206
    assert part.body == b"0123456789"[span[0] : span[1] + 1]
    assert part.headers["Content-Range"] == f"bytes {span[0]}-{span[1]}/10"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=-0", "bytes=5-2"])
async def test_a_range_without_bytes_is_refused(dev: Any, raw: Fetch, asked: str) -> None:
    (await dev() / "ten").write_bytes(b"0123456789")

    refused = await raw("/ten", Accept=RAW, Range=asked)

    assert (refused.code, refused.headers["Content-Range"]) == (416, "bytes */10")
    assert json.loads(refused.body)["field"] == "Range"


async def test_a_file_of_more_than_a_json_body_may_be_has_no_copy_in_memory(
    dev: Any, raw: Fetch, jp_serverapp: Any
) -> None:
    workspace = await dev()
    with (workspace / "big").open("wb") as file:
        file.truncate(64_000_000)

    got = await raw("/big", Accept=RAW, Range="bytes=63999990-")
    put = await raw("/copy", "PUT", bytes(40_000_000), Content_Type=RAW)

    assert (got.code, len(got.body or b"")) == (206, 10)
    assert put.code == 200
    assert (workspace / "copy").stat().st_size == 40_000_000


@pytest.mark.parametrize(
    "path",
    ["/../x", "/a/../../x", "..", "/out/passwd", "/link", "/fifo", "/a%00b", "/folder", "/" + "x" * 300, "/socket"],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_what_is_no_file_of_the_workspace_is_refused(api: Api, dev: Any, path: str, method: str) -> None:
    import socket

    workspace = await dev()
    (workspace / "out").symlink_to("/etc")
    (workspace / "link").symlink_to("/etc/passwd")
    (workspace / "folder").mkdir()
    os.mkfifo(workspace / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        home = Path.cwd()
        os.chdir(workspace)
        listener.bind("socket")
        os.chdir(home)
    before = Path("/etc/passwd").read_bytes()

    body = {"contentBase64": "eA=="} if method == "PUT" else None
    answer = await api(method, f"/api/spaces/dev/file?path={path}", body)

    assert (answer.status, answer.body["code"], answer.body["field"]) == (400, "invalid", "path")
    assert Path("/etc/passwd").read_bytes() == before


async def test_a_link_that_stays_inside_is_followed(api: Api, dev: Any) -> None:
    workspace = await dev()
    (workspace / "real").mkdir()
    (workspace / "real/f").write_text("x")
    (workspace / "alias").symlink_to("real")

    assert (await api("GET", "/api/spaces/dev/file?path=/alias/f")).body["contentBase64"] == "eA=="
    assert (await api("DELETE", "/api/spaces/dev/file?path=/alias")).status == 200
    assert (workspace / "real/f").exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "contentBase64"), ({"contentBase64": "!"}, "contentBase64"), ({"contentBase64": 1}, "contentBase64")],
)
async def test_a_wrong_body_leaves_no_file(api: Api, dev: Any, body: object, field: str) -> None:
    workspace = await dev()

    answer = await api("PUT", "/api/spaces/dev/file?path=/f", body)

    assert (answer.status, answer.body["field"]) == (400, field)
    assert list(workspace.iterdir()) == []


async def test_an_upload_that_breaks_off_leaves_nothing(dev: Any, daemon: Served) -> None:
    workspace = await dev()
    (workspace / "f").write_text("old")
    _, writer = await asyncio.open_unix_connection(str(daemon.socket_path))

    writer.write(
        b"PUT /api/spaces/dev/file?path=/f HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(9000)
    )
    await writer.drain()
    await asyncio.sleep(0.3)
    assert len(list(workspace.iterdir())) == 2
    writer.close()

    for _ in range(100):
        if len(list(workspace.iterdir())) == 1:
            break
        await asyncio.sleep(0.02)
    assert [(path.name, path.read_text()) for path in workspace.iterdir()] == [("f", "old")]


async def test_a_body_of_a_request_that_has_none_is_no_second_request(
    dev: Any, jp_serverapp: Any, jp_auth_header: dict[str, str], jp_base_url: str, api: Api
) -> None:
    """What is sent after a DELETE must not reach the daemon as a request of its own."""
    await dev()
    reader, writer = await asyncio.open_connection("127.0.0.1", jp_serverapp.port)
    inner = b"DELETE /api/spaces/dev HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"DELETE {jp_base_url}api/spaces/dev/file?path=/x HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: {jp_auth_header['Authorization']}\r\nContent-Length: {len(inner)}\r\n\r\n"

    writer.write(head.encode() + inner)
    answer = await reader.readuntil(b"\r\n")
    writer.close()

    assert b" 404 " in answer
    assert (await api("GET", "/api/spaces/dev")).status == 200


async def test_looking_at_a_space_does_not_wake_it(api: Api, dev: Any) -> None:
    await dev()
    await api("POST", "/api/spaces/dev/exec", {"command": "printf 'ls\\nmake\\n' > .bash_history"})

    awake = (await api("GET", "/api/spaces/dev/observability")).body["observability"]
    await api("POST", "/api/spaces/dev/stop")
    asleep = (await api("GET", "/api/spaces/dev/observability")).body["observability"]
    stats = (await api("GET", "/api/spaces/dev/stats")).body["stats"]
    sleeping = await api("GET", "/api/spaces/dev/exec")

    assert awake["bashHistoryTail"] == "ls\nmake\n"
    assert awake["top"][0]["command"]
    assert awake["workspaceDisk"]["totalBytes"] > 0
    assert asleep["top"] is asleep["workspaceDisk"] is asleep["bashHistoryTail"] is None
    assert stats["pids"] >= 1
    assert (sleeping.status, sleeping.body["code"]) == (409, "conflict")
    assert (await api("GET", "/api/spaces/dev")).body["space"]["status"] == "paused"


async def test_a_stopped_space_uses_nothing(api: Api, dev: Any) -> None:
    await dev()
    await api("POST", "/api/spaces/dev/halt")

    stats = (await api("GET", "/api/spaces/dev/stats")).body["stats"]

    assert stats.pop("memoryLimitBytes") == 2 * 1024**3
    assert set(stats.values()) == {0}
    assert (await api("GET", "/api/spaces/dev/exec")).body == {"processes": []}


async def test_a_terminal_takes_keystrokes_sizes_and_pings(dev: Any, join: Any) -> None:
    await dev()
    socket = await join("api", "spaces", "dev", "terminal", params={"cols": 90, "rows": 20})
    await socket.write_message('{"type":"ping"}')
    assert await _until(socket, lambda message, _: message == '{"type":"pong"}')
    for message in (
        json.dumps({"type": "input", "data": "stty size; echo $((40+"}),
        b"2))\r",
        "echo te",
        "xt\r",
        "echo ",
        "7",
        "\r",
    ):
        await socket.write_message(message, binary=isinstance(message, bytes))
    assert await _until(socket, lambda _, shown: _lines(shown) >= {b"20 90", b"42", b"text", b"7"})
    await socket.write_message('{"type":"resize","cols":100,"rows":30}')
    await socket.write_message("stty size\r")
    assert await _until(socket, lambda _, shown: b"30 100" in _lines(shown))
    await socket.write_message("exit\r")
    assert await _until(socket, lambda message, _: message is None)


def _lines(shown: bytes) -> set[bytes]:
    """What a terminal shows, without what steers it."""
    return set(re.split(rb"[\r\n]+", re.sub(rb"\x1b\[\?2004[hl]", b"", shown)))


async def _until(socket: Any, happened: Callable[[Any, bytes], bool]) -> bool:
    """Read until something has happened; text and bytes of a terminal."""
    shown = b""
    async with asyncio.timeout(8):
        while True:
            message = await socket.read_message()
            shown += message if isinstance(message, bytes) else b""
            if happened(message, shown):
                return True
            assert message is not None, shown


async def test_a_command_left_alone_is_listed_followed_again_and_told_how_much_is_lost(
    api: Api, dev: Any, join: Any
) -> None:
    await dev()
    first = await join("api", "spaces", "dev", "exec", "stream")
    script = "head -c 1500000 /dev/zero; echo end; sleep 0.3; exit 7"
    await first.write_message(json.dumps({"command": script, "detach": True}))
    process_id = json.loads(await first.read_message())["id"]
    first.close()
    await asyncio.sleep(1)

    (listed,) = (await api("GET", "/api/spaces/dev/exec")).body["processes"]
    assert (listed["id"], listed["command"], listed["running"]) == (process_id, ["sh", "-c", script], False)
    again = await join("api", "spaces", "dev", "exec", process_id, "stream")
    started = json.loads(await again.read_message())
    output = b""
    while isinstance(message := await again.read_message(), bytes):
        output += message[1:]

    assert json.loads(message) == {"type": "exit", "exitCode": 7}
    assert 1_000_000 <= len(output) < 1_500_000
    assert output.endswith(b"\0end\n")
    assert started["lost"]["stdout"] + len(output) == 1_500_004
    missing = await join("api", "spaces", "dev", "exec", "nope", "stream")
    assert json.loads(await missing.read_message())["code"] == "not_found"
    assert (await api("POST", "/api/spaces/dev/exec/nope/signal", {})).status == 404


async def test_who_follows_a_command_takes_it_over_unharmed(api: Api, dev: Any, join: Any) -> None:
    await dev()
    first = await join("api", "spaces", "dev", "exec", "stream")
    await first.write_message(json.dumps({"command": "echo on; read x; echo got $x"}))
    process_id = json.loads(await first.read_message())["id"]
    assert await first.read_message() == b"\x01on\n"

    second = await join("api", "spaces", "dev", "exec", process_id, "stream")
    assert json.loads(await first.read_message())["reason"] == "taken"
    assert json.loads(await second.read_message()) == {"type": "started", "id": process_id}
    assert await second.read_message() == b"\x01on\n"
    await second.write_message(b"it\n", binary=True)
    assert await second.read_message() == b"\x01got it\n"
    assert json.loads(await second.read_message())["exitCode"] == 0


async def test_a_command_is_signalled_by_its_id(api: Api, dev: Any, join: Any) -> None:
    await dev()
    socket = await join("api", "spaces", "dev", "exec", "stream")
    await socket.write_message(json.dumps({"command": ["sleep", "60"]}))
    process_id = json.loads(await socket.read_message())["id"]

    assert (await api("POST", f"/api/spaces/dev/exec/{process_id}/signal", {"number": 2})).body == {
        "message": "Signal sent"
    }

    assert json.loads(await socket.read_message()) == {"type": "exit", "exitCode": 130, "signal": 2}


async def test_a_command_of_200_kb_and_output_without_end_are_held_in_bounds(api: Api, dev: Any) -> None:
    await dev()

    long = await api("POST", "/api/spaces/dev/exec", {"command": f"echo {'x' * 200_000} | wc -c"})
    much = await api("POST", "/api/spaces/dev/exec", {"command": "head -c 30000000 /dev/zero; printf '\\377' >&2"})

    assert long.status < 500
    assert (len(much.body["stdout"]), much.body["truncated"], much.body["exitCode"]) == (8 * 1024 * 1024, True, 0)
    assert (much.body["stderr"], much.body["invalidUtf8"]) == ("\N{REPLACEMENT CHARACTER}", True)
