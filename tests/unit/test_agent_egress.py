"""The proxy inside a space: the real agent, asked by programs that are well behaved, and by others."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext.agent import egress as agent_egress
from clawdspace_ext.agent.hello import hello_frame
from clawdspace_ext.agent.loop import Loop
from clawdspace_ext.agent.pipes import FdWriter
from clawdspace_ext.agent.protocol import HEADER, OPEN, RESET
from clawdspace_ext.agent.proxy_request import BadRequest, parse
from clawdspace_ext.egress import Outlet
from clawdspace_ext.egress.addresses import Resolver
from clawdspace_ext.egress.carry import Carried, carry
from clawdspace_ext.egress.dialer import Dialer
from clawdspace_ext.egress.gateway import MAX_DENIED
from clawdspace_ext.egress.policy import Policy
from clawdspace_ext.egress.upstream import Upstream
from clawdspace_ext.errors import Refused
from clawdspace_ext.flow import Flow
from clawdspace_ext.link import MAX_AGENT_FLOWS, Link
from clawdspace_ext.protocols import Stream
from clawdspace_ext.spaces import SpaceSpec
from clawdspace_ext.testing import LocalEngine, SocketStream

#: An address of this machine that is allowed in these tests, and one that is not.
ALLOWED, CLOSED = "127.0.0.2", "127.0.0.1"


class Space:
    """An agent with its proxy open, and the outlet behind it."""

    def __init__(self, link: Link, outlet: Outlet, port: int) -> None:
        self.link = link
        self.outlet = outlet
        self.port = port

    async def say(self, data: bytes, *, end: bool = False) -> bytes:
        """Send to the proxy and return all that it answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        if end:
            writer.write_eof()
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@pytest_asyncio.fixture
async def space(tmp_path: Path) -> AsyncIterator[Space]:
    engine = LocalEngine(tmp_path)
    await engine.prepare("a", SpaceSpec())
    await engine.start("a")
    outlet = Outlet("a", Dialer(Policy(frozenset({ALLOWED})), Upstream(), Resolver()))
    link = Link(lambda: engine.dial("a"), "a", outlet.serve)
    yield Space(link, outlet, (await link.call("egress.open", {"port": 0}))["port"])
    await link.close()
    await engine.close()


class Server:
    """An HTTP server of a few lines, that keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.broken = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        if b"POST" in self.requests[-1]:
            self.requests.append(await reader.readexactly(4))
        if b"/cut" in self.requests[-1]:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            await writer.drain()
            await asyncio.sleep(0.2)
            broken_off = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, broken_off)
            writer.transport.abort()
            return
        try:
            if b"/endless" in self.requests[-1]:
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
        except OSError:
            writer.close()
            self.broken.set()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        writer.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    server = await asyncio.start_server(found.serve, "0.0.0.0", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.mark.asyncio
async def test_a_tunnel_carries_both_ways_until_each_side_ends(space: Space, server: Server) -> None:
    target = f"{ALLOWED}:{server.port}".encode()

    answer = await space.say(
        b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nGET / HTTP/1.1\r\n\r\n" % (target, target), end=True
    )

    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"
    assert server.requests == [b"GET / HTTP/1.1\r\n\r\n"]
    while space.outlet.carried.received == 0:
        await asyncio.sleep(0.01)
    assert (space.outlet.carried.sent, space.outlet.carried.received) == (18, 24)


@pytest.mark.asyncio
async def test_a_plain_request_is_passed_on_without_what_is_meant_for_the_proxy(space: Space, server: Server) -> None:
    host = f"{ALLOWED}:{server.port}".encode()

    answer = await space.say(
        b"POST http://%s/a?b=c HTTP/1.1\r\nHost: other.example\r\nProxy-Connection: keep-alive\r\n"
        b"Proxy-Authorization: Basic eA==\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
        b"Content-Length: 4\r\nX-End: 2\r\n\r\nbody" % host
    )

    assert answer == b"HTTP/1.1 200 OK\r\n\r\nhello"
    assert server.requests == [
        b"POST /a?b=c HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nX-End: 2\r\nConnection: close\r\n\r\n" % host,
        b"body",
    ]


@pytest.mark.asyncio
async def test_a_denied_program_reads_why_and_the_attempt_is_remembered(space: Space, server: Server) -> None:
    for _ in range(3):
        answer = await space.say(b"CONNECT %s:%d HTTP/1.1\r\n\r\n" % (CLOSED.encode(), server.port))

        assert answer.startswith(
            f"HTTP/1.1 403 Forbidden: {CLOSED}:{server.port} is not on the public internet".encode()
        )
    assert [entry.target for entry in space.outlet.denied] == [f"{CLOSED}:{server.port}"] * 3
    assert server.requests == []


@pytest.mark.asyncio
async def test_denied_attempts_are_remembered_within_a_bound(space: Space) -> None:
    requests = [
        space.say(b"CONNECT 10.0.0.1:%d HTTP/1.1\r\n\r\n" % port) for port in range(2000, 2000 + MAX_DENIED + 5)
    ]

    for answer in [await request for request in requests]:
        assert answer.startswith(b"HTTP/1.1 403")
    assert len(space.outlet.denied) == MAX_DENIED


@pytest.mark.asyncio
async def test_nobody_listening_is_a_bad_gateway(space: Space) -> None:
    with socket.socket() as unused:
        unused.bind((ALLOWED, 0))
        answer = await space.say(b"CONNECT %s:%d HTTP/1.1\r\n\r\n" % (ALLOWED.encode(), unused.getsockname()[1]))

    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET https://example.com/ HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT example.com HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT example.com:0 HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT example.com:99999 HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT example.com:\xc2\xb2 HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT u:p@example.com:443 HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT \xff\xfe:443 HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT %s:443 HTTP/1.1\r\n\r\n" % (b"a" * 5000), b"400"),
        (b"CONNECT a/b:443 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET http:// HTTP/1.1\r\n\r\n", b"400"),
        (b"GET http://a.example/ HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET http://a.example/ HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", b"400"),
        (b"GET http://a.example/\nX:y HTTP/1.1\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET http://a.example/ HTTP/1.1\r\nA: " + b"b" * 100_000, b"431"),
        (b"CONNECT 127.1:443 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT 1.1.1.1:25 HTTP/1.1\r\n\r\n", b"403"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_request_is_answered_and_changes_nothing(
    space: Space, server: Server, request_: bytes, status: bytes
) -> None:
    assert (await space.say(request_)).startswith(b"HTTP/1.1 " + status)
    assert (await space.say(b"GET http://%s:%d/ HTTP/1.1\r\n\r\n" % (ALLOWED.encode(), server.port))).endswith(b"hello")


@pytest.mark.asyncio
async def test_programs_that_say_nothing_cannot_keep_others_out(space: Space, server: Server) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", space.port) for _ in range(agent_egress.MAX_CONNECTIONS - 1)]

    assert (await space.say(b"GET http://%s:%d/ HTTP/1.1\r\n\r\n" % (ALLOWED.encode(), server.port))).endswith(b"hello")
    idle.append(await asyncio.open_connection("127.0.0.1", space.port))
    waiting = asyncio.create_task(space.say(b"GET http://%s:%d/ HTTP/1.1\r\n\r\n" % (ALLOWED.encode(), server.port)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    for _, writer in idle:
        writer.close()
    assert (await waiting).endswith(b"hello")


@pytest.mark.asyncio
async def test_a_part_never_passes_for_the_whole(space: Space, server: Server) -> None:
    with pytest.raises(ConnectionResetError):
        await space.say(b"GET http://%s:%d/cut HTTP/1.1\r\n\r\n" % (ALLOWED.encode(), server.port))


@pytest.mark.asyncio
async def test_a_program_that_goes_away_ends_its_download(space: Space, server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", space.port)
    writer.write(b"GET http://%s:%d/endless HTTP/1.1\r\n\r\n" % (ALLOWED.encode(), server.port))
    await reader.readexactly(300_000)
    writer.transport.abort()

    async with asyncio.timeout(5):
        await server.broken.wait()


class Credit:
    """A flow that counts what was dealt with."""

    given = 0

    def consumed(self, size: int) -> None:
        self.given += size


def test_a_program_that_goes_away_before_it_has_read_the_end_leaves_nothing() -> None:
    loop, flow, ended = Loop(), Credit(), []
    ours, theirs = socket.socketpair()
    writer = FdWriter(loop, ours.detach())
    writer.write(flow, bytes(8_000_000))  # type: ignore[arg-type]
    writer.finish(lambda: ended.append(True))
    assert not ended

    theirs.close()
    loop.turn()

    assert ended == [True]
    assert (writer.fd, flow.given) == (None, 8_000_000)


@pytest.mark.asyncio
async def test_an_upload_that_breaks_off_does_not_pass_for_the_whole(space: Space) -> None:
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
            ended.set_result(True)
        except OSError:
            ended.set_result(False)
        writer.close()

    server = await asyncio.start_server(take, ALLOWED, 0)
    _, writer = await asyncio.open_connection("127.0.0.1", space.port)
    target = f"{ALLOWED}:{server.sockets[0].getsockname()[1]}"
    writer.write(f"CONNECT {target} HTTP/1.1\r\n\r\nhalf of it".encode())
    await asyncio.sleep(0.2)
    await space.link.close()

    assert not await asyncio.wait_for(ended, 5)
    writer.close()
    server.close()


@pytest.mark.asyncio
async def test_opening_twice_is_no_error(space: Space) -> None:
    again = await space.link.call("egress.open", {"port": 0})

    assert again["port"] == space.port


@pytest.mark.parametrize("args", [{"port": -1}, {"port": "x"}, {}])
@pytest.mark.asyncio
async def test_flows_of_an_agent_that_make_no_sense_are_refused(space: Space, args: dict[str, Any]) -> None:
    for kind in ("egress", "exec", "x" * 1000):
        flow = Answers()
        await space.outlet.serve(kind, {"host": "example.com", **args}, flow)  # type: ignore[arg-type]
        assert flow.reason in ("invalid", "unsupported", "denied")


class Answers:
    """A flow that keeps why it was reset."""

    reason = ""

    def reset(self, code: str = "closed", text: str = "") -> None:
        self.reason = code


@pytest.mark.asyncio
async def test_a_link_without_a_network_takes_no_flows(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    await engine.prepare("a", SpaceSpec())
    await engine.start("a")
    link = Link(lambda: engine.dial("a"), "a")
    port = (await link.call("egress.open", {"port": 0}))["port"]

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")

    assert (await reader.read()).startswith(b"HTTP/1.1 502")
    writer.close()
    with pytest.raises(Refused):
        await link.call("egress.close", {})
    await link.close()
    await engine.close()


@pytest.mark.asyncio
async def test_an_agent_that_opens_flows_without_end_gets_few_served_and_harms_only_its_link(tmp_path: Path) -> None:
    served = 0
    hung_up = asyncio.Event()

    async def serve(kind: str, args: dict[str, Any], flow: Flow) -> None:
        nonlocal served
        served += 1
        await asyncio.sleep(30)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello_frame({"session": "s", "received": 0, "resumed": False}))
        opening, giving_up = b'{"kind":"egress","host":"a","port":80}', b"{}"
        for number in range(2, 20_000, 2):
            writer.write(HEADER.pack(len(opening), number, OPEN, 0) + opening)
            writer.write(HEADER.pack(len(giving_up), number, RESET, 0) + giving_up)
        await writer.drain()
        await reader.read()
        writer.close()
        hung_up.set()

    async def dial() -> Stream:
        return SocketStream(*await asyncio.open_unix_connection(tmp_path / "s"))

    server = await asyncio.start_unix_server(flood, tmp_path / "s")
    link = Link(dial, "liar", serve)
    await link.connect()
    await asyncio.sleep(1)

    assert 0 < served <= MAX_AGENT_FLOWS
    assert link.flows == 0
    await link.close()
    await asyncio.wait_for(hung_up.wait(), 5)
    server.close()


@pytest.mark.asyncio
async def test_an_idle_connection_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    reader, writer = await asyncio.open_connection(sock=ours)
    flow = Silent()
    carried = Carried()

    async with asyncio.timeout(5):
        await carry(flow, reader, writer, carried, idle=0.05)

    assert flow.was_reset
    assert await asyncio.wait_for(asyncio.to_thread(theirs.recv, 1), 5) == b""
    theirs.close()


class Silent(Flow):
    """A flow on which nothing ever comes."""

    was_reset = False

    async def read(self) -> None:
        await asyncio.sleep(60)

    def reset(self, code: str = "closed", text: str = "") -> None:
        self.was_reset = True


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    try:
        request = parse(head)
    except BadRequest:
        return
    assert 0 < request.port < 65536


PIECES = [*b" :@[]/?,\r\n\0\xff1a", b"GET", b"CONNECT", b"http://", b"HTTP/1.1", b"\r\n", b"Host", b"Connection"]


@given(st.lists(st.sampled_from([bytes([p]) if isinstance(p, int) else p for p in PIECES]), max_size=30))
def test_a_passed_on_head_has_no_stray_line_ends(words: list[bytes]) -> None:
    try:
        request = parse(b"".join(words))
    except BadRequest:
        return
    lines = request.forward.split(b"\r\n")
    assert not any(c in line for line in lines for c in (b"\r", b"\n", b"\0"))
    assert not request.forward or (lines[-2:] == [b"", b""] and b"" not in lines[:-2])
