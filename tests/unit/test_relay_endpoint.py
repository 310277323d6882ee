"""The daemon's ZeroMQ sockets: good clients, bad ones, and ones that do not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from clawdspace_ext.agent.frames import encode
from clawdspace_ext.agent.zmtp import Codec
from clawdspace_ext.relay import endpoint as module
from clawdspace_ext.relay.endpoint import Client, Endpoint, ignore

pytestmark = pytest.mark.asyncio


OPEN: list[socket.socket] = []


class Peer:
    """A client made of our codec on a plain socket, which reads only when told."""

    def __init__(self, path: Path, socket_type: str, identity: bytes = b"") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        OPEN.append(self.sock)
        self.sock.setblocking(False)
        self.sock.connect(str(path))
        self.codec = Codec(socket_type, identity)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self) -> list[list[bytes]]:
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 1 << 20), 5)
        if not data:
            raise ConnectionResetError
        messages = self.codec.receive(data)
        await self.send(self.codec.outgoing())
        return messages

    async def meet(self) -> Peer:
        await self.send(self.codec.outgoing())
        while not self.codec.ready:
            await self.receive()
        return self

    def hang_up(self) -> None:
        self.sock.close()


@pytest_asyncio.fixture
async def publisher(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A publisher with small bounds."""
    endpoint = Endpoint(tmp_path / "s", "XPUB", ignore)
    await endpoint.listen()
    yield endpoint
    endpoint.close()


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bounds that a test reaches in a moment, and no socket left open after it."""
    monkeypatch.setattr(module, "QUEUE", 1_000_000)
    monkeypatch.setattr(module, "STALL", 0.4)
    yield
    while OPEN:
        OPEN.pop().close()


async def subscriber(publisher: Endpoint) -> Peer:
    def subscribed() -> int:
        return sum(client.wants(b"anything") for client in publisher.clients.values())

    before = subscribed()
    peer = await Peer(publisher._path, "SUB").meet()
    await peer.send(peer.codec.subscribe())
    async with asyncio.timeout(5):
        while subscribed() == before:
            await asyncio.sleep(0.01)
    return peer


async def flood(publisher: Endpoint, count: int) -> None:
    for number in range(count):
        publisher.publish(b"topic", [b"topic", b"%d" % number, b"x" * 50_000])
        await publisher.catch_up()


async def read_numbers(peer: Peer, count: int, pause: float = 0) -> list[int]:
    numbers: list[int] = []
    while len(numbers) < count:
        numbers += [int(parts[1]) for parts in await peer.receive()]
        await asyncio.sleep(pause)
    return numbers


async def test_a_client_that_never_reads_is_cut_off_and_the_others_get_everything(publisher: Endpoint) -> None:
    stuck, good = await subscriber(publisher), await subscriber(publisher)
    reading = asyncio.create_task(read_numbers(good, 200))
    await asyncio.wait_for(flood(publisher, 200), 5)
    assert await reading == list(range(200))
    assert len(publisher.clients) == 1
    stuck.hang_up()


async def test_a_client_that_reads_slowly_is_waited_for(publisher: Endpoint) -> None:
    slow = await subscriber(publisher)
    reading = asyncio.create_task(read_numbers(slow, 200, pause=0.05))
    await flood(publisher, 200)
    assert await reading == list(range(200))


async def test_a_client_a_little_behind_is_left_in_peace(publisher: Endpoint) -> None:
    late = await subscriber(publisher)
    await flood(publisher, 10)
    await asyncio.sleep(0.6)
    assert await read_numbers(late, 10) == list(range(10))


async def test_only_what_was_subscribed_to_arrives(publisher: Endpoint) -> None:
    peer = await Peer(publisher._path, "SUB").meet()
    await peer.send(peer.codec.subscribe(b"wanted"))
    await asyncio.sleep(0.05)
    publisher.publish(b"other", [b"other", b"1"])
    publisher.publish(b"wanted.too", [b"wanted.too", b"2"])
    assert await peer.receive() == [[b"wanted.too", b"2"]]


async def test_noise_disconnects_who_made_it_and_nobody_else(publisher: Endpoint) -> None:
    good = await subscriber(publisher)
    noisy = Peer(publisher._path, "SUB")
    await noisy.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionError):
        await noisy.meet()
    publisher.publish(b"", [b"", b"1"])
    assert await good.receive() == [[b"", b"1"]]


async def test_replies_go_to_the_newest_connection_of_an_identity(tmp_path: Path) -> None:
    heard: list[list[bytes]] = []

    async def hear(client: Client, parts: list[bytes]) -> None:
        heard.append([client.identity, *parts])

    router = Endpoint(tmp_path / "r", "ROUTER", hear)
    await router.listen()
    old = await Peer(tmp_path / "r", "DEALER", b"me").meet()
    new = await Peer(tmp_path / "r", "DEALER", b"me").meet()
    await new.send(encode([b"hello"]))
    async with asyncio.timeout(5):
        while not heard:
            await asyncio.sleep(0.01)
    old.hang_up()
    await asyncio.sleep(0.05)
    router.send(b"me", [b"answer"])
    router.send(b"nobody", [b"dropped"])
    assert heard == [[b"me", b"hello"]]
    assert await new.receive() == [[b"answer"]]
    router.close()


async def test_more_clients_than_the_bound_are_turned_away(
    publisher: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CLIENTS", 2)
    first = [await Peer(publisher._path, "SUB").meet() for _ in range(2)]
    with pytest.raises(ConnectionError):
        await Peer(publisher._path, "SUB").meet()
    first[0].hang_up()
    await asyncio.sleep(0.05)
    await Peer(publisher._path, "SUB").meet()
