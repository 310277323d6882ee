"""Files, observations and commands left alone, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from clawdspace_ext.errors import InvalidRequest, NotFound, Refused
from clawdspace_ext.link import Link
from clawdspace_ext.processes import attach_process
from clawdspace_ext.space_files import SpaceFiles
from contract.conftest import MakeSpace

pytestmark = pytest.mark.asyncio


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 50_000):
        yield content[start : start + 50_000]


async def test_files_of_the_workspace_are_written_and_read(make_space: MakeSpace) -> None:
    space = await make_space()
    files = SpaceFiles(space.link)
    content = bytes(range(256)) * 4000

    assert await files.write("/a/b", pieces(content)) == len(content)
    await space.sh("chmod 700 a/b")
    await files.write("/a/b", pieces(content[1:]))

    assert await space.sh("stat -c '%a %s' /workspace/a/b") == f"700 {len(content) - 1}"
    part = await files.read("/a/b", 255, 3)
    assert (part.size, b"".join([chunk async for chunk in part.chunks()])) == (len(content) - 1, b"\x00\x01\x02")
    assert [(entry.path, entry.type) for entry in await files.list("/")] == [("/a", "dir")]


@pytest.mark.parametrize("path", ["/etc/passwd", "/out/passwd", "/passwd", "/up/x", "/pipe", "/null"])
async def test_what_leads_out_of_the_workspace_is_refused(make_space: MakeSpace, path: str) -> None:
    space = await make_space()
    files = SpaceFiles(space.link)
    await space.sh("ln -s /etc out; ln -s /etc/passwd passwd; ln -s .. up; mkfifo pipe; ln -s /dev/null null")

    with pytest.raises((InvalidRequest, NotFound)):
        await files.read(path)
    if path != "/etc/passwd":  # which is a file of the workspace, yet to be made
        with pytest.raises(InvalidRequest):
            await files.write(path, pieces(b"x"))


async def test_the_agents_own_callers_go_where_they_want(make_space: MakeSpace) -> None:
    space = await make_space()

    flow = await space.link.open("read", {"path": "/etc/passwd"})

    assert isinstance(await flow.read(), dict)
    flow.reset()


async def test_a_space_tells_what_goes_on_in_it(make_space: MakeSpace) -> None:
    space = await make_space()
    await space.sh("head -c 3000000 /dev/zero > big; echo make > .bash_history")
    await space.sh("sleep 50 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do sleep 0.01; done")

    told = await space.link.call("observe")

    assert told["bashHistoryTail"] == "make\n"
    assert told["workspaceSizeBytes"] >= 3_000_000
    assert told["workspaceDisk"]["totalBytes"] > 0
    assert "sleep 50" in [entry["command"] for entry in told["top"]]
    assert all(set(entry) == {"pid", "cpu", "mem", "etime", "command"} for entry in told["top"])


async def test_a_command_that_is_gone_cannot_be_followed(make_space: MakeSpace) -> None:
    space = await make_space()

    async def relink() -> Link:
        return space.link

    with pytest.raises(NotFound):
        await attach_process(space.link, "nope", relink)
    with pytest.raises(Refused):
        await space.link.call("signal", {"id": "nope", "signal": 1})
