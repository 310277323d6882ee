"""What the agent does for kernels, asked over the link alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clawdspace_ext.agent.frames import Framer, encode
from clawdspace_ext.agent.spool import HEAD
from clawdspace_ext.errors import Refused
from clawdspace_ext.flow import Chunk, Flow
from support.kernels import Host

pytestmark = pytest.mark.asyncio

#: A kernel that never listens, and one that ends with words.
SLEEPER = ["sleep", "60"]
SPEAKER = ["sh", "-c", "echo ignored; echo the reason >&2; exit 4"]


async def start(host: Host, argv: list[str], kernel_id: str = "k1", **more: Any) -> Any:
    link = await host.spaces.link("dev")
    return await link.call("kernel.start", {"id": kernel_id, "argv": argv, "env": {}, "key": "x", **more})


async def attach(host: Host, received: int = 0) -> Flow:
    link = await host.spaces.link("dev")
    return await link.open("kernel.attach", {"id": "k1", "received": received})


async def read(flow: Flow, wanted: Callable[[object], bool]) -> Any:
    """Return the first message or numbered record that is wanted."""
    framer = Framer()
    async with asyncio.timeout(5):
        while True:
            item = await flow.read()
            found = framer.receive(item.data) if isinstance(item, Chunk) else [item]
            for one in found:
                if wanted(one):
                    return one


def folders() -> set[Path]:
    return set(Path("/tmp").glob("clawdspace-kernel-k1-*"))


async def test_a_kernel_that_ends_tells_how_and_what_it_said(host: Host) -> None:
    started = await start(host, SPEAKER)
    flow = await attach(host)
    head, event = await read(flow, lambda item: isinstance(item, list))
    assert HEAD.unpack(head) == (1, 0)
    assert json.loads(event) == {"exited": started["pid"], "status": 4 << 8, "oom": False, "log": "the reason\n"}
    assert folders() == set()


async def test_what_was_not_acknowledged_is_told_again_and_what_was_is_not(host: Host) -> None:
    await start(host, SPEAKER)
    first = await attach(host)
    await read(first, lambda item: isinstance(item, list))
    again = await attach(host)
    head, _ = await read(again, lambda item: isinstance(item, list))
    assert HEAD.unpack(head) == (1, 0)
    with pytest.raises(Refused, match="somebody else follows"):
        await read(first, lambda item: False)
    later = await attach(host, received=1)
    assert (await read(later, lambda item: isinstance(item, dict)))["running"] is False
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(later.read(), 0.2)


async def test_numbers_go_on_over_a_restart(host: Host) -> None:
    await start(host, SPEAKER)
    await read(await attach(host), lambda item: isinstance(item, list))
    assert (await start(host, SLEEPER))["last"] == 1


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"kernel_id": "../k"}, "invalid"),
        ({"kernel_id": "k" * 33}, "invalid"),
        ({"argv": []}, "invalid"),
        ({"argv": ["a\0b"]}, "invalid"),
        ({"argv": "sleep"}, "invalid"),
        ({"env": {"A": 1}}, "invalid"),
        ({"key": None}, "invalid"),
        ({"argv": ["no-such-program"]}, "not_found"),
        ({"cwd": "/no/such/folder"}, "not_found"),
    ],
)
async def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    host: Host, more: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refused) as caught:
        await start(host, **{"argv": SLEEPER, **more})
    assert caught.value.reason == code
    assert await (await host.spaces.link("dev")).call("kernel.list") == []
    assert folders() == set()


async def test_a_running_kernel_is_not_started_twice(host: Host) -> None:
    await start(host, SLEEPER)
    with pytest.raises(Refused) as caught:
        await start(host, SLEEPER)
    assert caught.value.reason == "exists"


async def test_a_forgotten_kernel_is_gone_and_forgetting_it_again_is_no_error(host: Host) -> None:
    await start(host, SLEEPER)
    link = await host.spaces.link("dev")
    assert await link.call("kernel.list") == [{"id": "k1", "running": True}]
    for _ in range(2):
        await link.call("kernel.forget", {"id": "k1"})
    async with asyncio.timeout(5):
        while folders():
            await asyncio.sleep(0.01)
    assert await link.call("kernel.list") == []
    for op in ("kernel.signal", "kernel.attach"):
        with pytest.raises(Refused):
            await (link.call(op, {"id": "k1", "signal": 2}) if op == "kernel.signal" else (await attach(host)).read())


async def test_frames_that_are_none_end_the_flow_and_not_the_kernel(host: Host) -> None:
    await start(host, SLEEPER)
    flow = await attach(host)
    await flow.write(b"\xff" * 100)
    with pytest.raises(Refused):
        await read(flow, lambda item: False)
    other = await attach(host)
    await other.write(encode([b""]) + encode([b"\x07", b"x"]) + encode([b"\x02", b"nobody may publish"]))
    assert (await read(other, lambda item: isinstance(item, dict)))["running"] is True


async def test_requests_for_a_kernel_that_does_not_listen_wait_within_a_bound(host: Host) -> None:
    await start(host, SLEEPER)
    flow = await attach(host)

    async def ask() -> None:
        for _ in range(100):
            await flow.write(encode([b"\x01", bytes(100_000)]))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(), 1)
