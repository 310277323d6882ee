"""Files of a space from the daemon's side, against agents that do not keep to the shapes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from clawdspace_ext.errors import Broken, InvalidRequest
from clawdspace_ext.handlers.observe import _checked
from clawdspace_ext.handlers.pipe import Pipe
from clawdspace_ext.link import Link
from clawdspace_ext.processes import running_commands
from clawdspace_ext.space_files import SpaceFiles, inner_path

pytestmark = pytest.mark.asyncio


class Telling:
    """A link whose agent answers every call with the same."""

    def __init__(self, told: object) -> None:
        self._told = told

    async def call(self, op: str, args: Any) -> object:
        return self._told


@pytest.mark.parametrize(
    ("given", "meant"), [("", "/"), ("a", "/a"), ("//a/./b/", "/a/b"), ("/...", "/..."), ("/%2e%2e", "/%2e%2e")]
)
async def test_a_path_begins_at_the_workspace(given: str, meant: str) -> None:
    assert inner_path(given) == meant


@pytest.mark.parametrize("given", ["..", "/..", "a/../b", "/a/..", "a\0b", "x" * 5000])
async def test_a_path_that_cannot_be_there_names_its_field(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        inner_path(given, "from")
    assert refused.value.field == "from"


ENTRY = {"name": "f", "type": "file", "size": 1, "mtimeMs": 2}


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        [1],
        [{}],
        [ENTRY | {"name": "../x"}],
        [ENTRY | {"name": ".."}],
        [ENTRY | {"type": "door"}],
        [ENTRY | {"size": -1}],
        [ENTRY | {"size": True}],
        [ENTRY | {"mtimeMs": "now"}],
    ],
)
async def test_a_hostile_listing_is_refused(told: object) -> None:
    with pytest.raises(Broken):
        await SpaceFiles(cast("Link", Telling(told))).list("/")


@pytest.mark.parametrize("told", [None, [], {"workspaceDisk": 1}, {"workspaceDisk": {}}])
async def test_hostile_observations_are_refused(told: object) -> None:
    with pytest.raises(Broken):
        _checked(told)


@pytest.mark.parametrize("told", [None, [1], [{"id": "a"}], [{"id": "a", "argv": [], "started": 1e300, "running": 1}]])
async def test_a_hostile_list_of_commands_is_refused(told: object) -> None:
    with pytest.raises(Broken):
        running_commands(told)


async def test_a_pipe_lets_its_sender_go_when_nobody_reads() -> None:
    pipe = Pipe()
    pipe.abandon()

    await pipe.put(b"x")
    pipe.end()

    assert [chunk async for chunk in pipe] == []
