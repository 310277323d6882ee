"""The daemon's side of the link, against the real agent over breaking transports and against agents that lie."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawdspace_ext import link as link_module
from clawdspace_ext.agent import protocol as m
from clawdspace_ext.agent.hello import hello_frame
from clawdspace_ext.errors import Broken, Refused, SpaceError, Unavailable
from clawdspace_ext.flow import Chunk, Flow
from clawdspace_ext.link import Link
from clawdspace_ext.protocols import Stream
from clawdspace_ext.spaces import SpaceSpec
from clawdspace_ext.testing import LocalEngine, SocketStream

pytestmark = pytest.mark.asyncio


class Breakable:
    """Dials a real agent and lets a test break what it dialled."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.streams: list[Stream] = []

    async def dial(self) -> Stream:
        stream = await self._engine.dial("a")
        self.streams.append(stream)
        return stream

    def cut(self) -> None:
        self.streams[-1]._writer.transport.abort()  # type: ignore[attr-defined]


@pytest_asyncio.fixture
async def agent(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(tmp_path)
    await engine.prepare("a", SpaceSpec())
    await engine.start("a")
    yield engine
    await engine.close()


@pytest_asyncio.fixture
async def breakable(agent: LocalEngine) -> Breakable:
    return Breakable(agent)


@pytest_asyncio.fixture
async def link(breakable: Breakable) -> AsyncIterator[Link]:
    link = Link(breakable.dial, "a")
    yield link
    await link.close()


async def run(link: Link, *argv: str, **args: object) -> tuple[bytes, bytes, dict[str, object]]:
    flow = await link.open("exec", {"id": os.urandom(6).hex(), "argv": list(argv), **args})
    return await drain(flow)


async def drain(flow: Flow) -> tuple[bytes, bytes, dict[str, object]]:
    out: dict[int, list[bytes]] = {1: [], 2: []}
    told: dict[str, object] = {}
    while (item := await flow.read()) is not None:
        if isinstance(item, Chunk):
            out[item.channel].append(item.data)
        else:
            told.update(item)
    flow.end()
    return b"".join(out[1]), b"".join(out[2]), told


async def test_outputs_are_separate_and_the_exit_code_is_real(link: Link) -> None:
    out, err, told = await run(link, "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (out, err, told["exit"], told["signal"]) == (b"out\n", b"err\n", 7, None)


async def test_a_command_killed_by_a_signal_says_so(link: Link) -> None:
    _, _, told = await run(link, "sh", "-c", "kill -9 $$")

    assert (told["exit"], told["signal"]) == (137, 9)


async def test_a_missing_program_and_a_missing_folder_are_named(link: Link) -> None:
    with pytest.raises(Refused, match="nowhere-to-be-found: No such file"):
        await run(link, "nowhere-to-be-found")
    with pytest.raises(Refused, match="/no/such/dir: No such file"):
        await run(link, "true", cwd="/no/such/dir")


async def test_a_timeout_ends_the_whole_session_even_what_ignores_sigterm(link: Link) -> None:
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; exec sleep 60' & wait; sleep 60"
    began = time.monotonic()
    out, _, told = await run(link, "sh", "-c", script, timeout=0.3)

    assert told["timedOut"] is True
    assert time.monotonic() - began < 6
    child = int(out)
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        await asyncio.sleep(0.05)
    pytest.fail("a child outlived the timeout")


async def test_a_background_child_does_not_hold_the_answer_back(link: Link) -> None:
    began = time.monotonic()
    out, _, told = await run(link, "sh", "-c", "sleep 30 & echo $!")

    assert told["exit"] == 0
    assert time.monotonic() - began < 5
    os.kill(int(out), signal.SIGKILL)


async def test_signals_reach_the_process_group(link: Link) -> None:
    flow = await link.open(
        "exec", {"id": "s1", "argv": ["sh", "-c", "trap 'exit 42' INT; echo go; while :; do sleep 0.05; done"]}
    )
    assert await flow.read() is not None
    assert await flow.read() == Chunk(1, b"go\n")
    await link.call("signal", {"id": "s1", "signal": signal.SIGINT})
    _, _, told = await drain(flow)

    assert told["exit"] == 42


async def test_a_signal_passes_stdin_that_is_not_read(link: Link) -> None:
    flow = await link.open("exec", {"id": "s2", "argv": ["sleep", "60"], "stdin": True})
    writer = asyncio.create_task(flow.write(b"x" * (4 * m.WINDOW)))
    await asyncio.sleep(0.2)
    assert not writer.done()
    await link.call("signal", {"id": "s2", "signal": signal.SIGTERM})
    _, _, told = await drain(flow)

    assert told["signal"] == signal.SIGTERM
    writer.cancel()


async def test_a_terminal_has_a_size_and_changes_it(link: Link) -> None:
    flow = await link.open(
        "exec", {"id": "t1", "argv": ["sh", "-c", "stty size; read x; stty size"], "tty": [100, 40], "stdin": True}
    )
    text = b""
    while b"40 100" not in text:
        item = await flow.read()
        text += item.data if isinstance(item, Chunk) else b""
    flow.send({"resize": [120, 50]})
    await flow.write(b"\n")
    rest, _, _ = await drain(flow)

    assert b"50 120" in rest


async def test_twenty_broken_transports_in_a_transfer_lose_nothing(link: Link, breakable: Breakable) -> None:
    size = 60_000_000
    flow = await link.open("exec", {"id": "c1", "argv": ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' 'x'"]})
    received = 0
    cuts = 0
    digest = hashlib.sha256()
    while (item := await flow.read()) is not None:
        if isinstance(item, Chunk):
            received += len(item.data)
            digest.update(item.data)
        if cuts < 20 and received > cuts * size // 25:
            cuts += 1
            breakable.cut()
    expected = hashlib.sha256(b"x" * size)

    assert cuts == 20
    assert len(breakable.streams) > 10
    assert received == size
    assert digest.digest() == expected.digest()


async def test_uploads_survive_broken_transports(link: Link, breakable: Breakable, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 8
    flow = await link.open("write", {"path": "up/load.bin"})
    for start in range(0, len(content), 1 << 20):
        await flow.write(content[start : start + (1 << 20)])
        breakable.cut()
    flow.end()

    assert await flow.read() == {"size": len(content)}
    assert (tmp_path / "a" / "up" / "load.bin").read_bytes() == content


async def test_a_process_is_found_again_by_another_daemon(agent: LocalEngine, breakable: Breakable) -> None:
    first = Link(breakable.dial, "a")
    flow = await first.open("exec", {"id": "p1", "argv": ["sh", "-c", "echo one; sleep 0.5; echo two; exit 5"]})
    await flow.read()
    assert await flow.read() == Chunk(1, b"one\n")
    await first.close()

    second = Link(breakable.dial, "a")
    attached = await second.open("attach", {"id": "p1", "offsets": {"1": 4}})
    out, _, told = await drain(attached)
    assert (out, told["exit"]) == (b"two\n", 5)
    await second.close()


async def test_the_end_of_a_process_nobody_followed_is_kept(link: Link, breakable: Breakable) -> None:
    flow = await link.open("exec", {"id": "p2", "argv": ["sh", "-c", "echo done; exit 3"]})
    flow.reset()
    await asyncio.sleep(0.3)
    out, _, told = await drain(await link.open("attach", {"id": "p2"}))

    assert (out, told["exit"]) == (b"done\n", 3)
    for _ in range(50):
        if not await link.call("processes"):
            break
        await asyncio.sleep(0.02)
    assert await link.call("processes") == []


async def test_nobody_reading_blocks_the_process_and_not_the_memory(link: Link) -> None:
    flow = await link.open("exec", {"id": "q1", "argv": ["cat", "/dev/zero"]})
    await asyncio.sleep(0.5)
    held = sum(len(item.data) for item in flow._items if isinstance(item, Chunk))

    assert held <= m.WINDOW
    await link.call("signal", {"id": "q1", "signal": 9})
    flow.reset()


async def test_files_are_listed_written_moved_ranged_and_removed(link: Link) -> None:
    await link.call("mkdir", {"path": "d/e"})
    flow = await link.open("write", {"path": "d/f.txt", "mode": 0o640})
    await flow.write(b"0123456789")
    flow.end()
    assert await flow.read() == {"size": 10}

    ranged = await link.open("read", {"path": "d/f.txt", "offset": 3, "length": 4})
    assert (await ranged.read())["size"] == 10  # type: ignore[call-overload,index]
    assert await ranged.read() == Chunk(0, b"3456")
    assert await ranged.read() is None

    assert [(e["name"], e["type"]) for e in await link.call("list", {"path": "d"})] == [("e", "dir"), ("f.txt", "file")]
    with pytest.raises(Refused, match="something of that name"):
        await link.call("move", {"path": "d/f.txt", "to": "d/e"})
    await link.call("move", {"path": "d/f.txt", "to": "d/g.txt"})
    assert (await link.call("stat", {"path": "d/g.txt"}))["mode"] == 0o640
    with pytest.raises(Refused, match="not empty"):
        await link.call("delete", {"path": "d"})
    await link.call("delete", {"path": "d", "recursive": True})
    with pytest.raises(Refused, match="No such file") as missing:
        await link.call("list", {"path": "d"})
    assert missing.value.reason == "not_found"


async def test_a_named_pipe_cannot_stop_the_agent(link: Link, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(Refused, match="not a regular file"):
        await (await link.open("read", {"path": "pipe"})).read()


async def test_a_given_up_write_leaves_no_trace(link: Link, tmp_path: Path) -> None:
    flow = await link.open("write", {"path": "half.bin"})
    await flow.write(b"x" * 100_000)
    flow.reset()
    for _ in range(50):
        if not list((tmp_path / "a").iterdir()):
            break
        await asyncio.sleep(0.02)

    assert list((tmp_path / "a").iterdir()) == []


async def test_connections_reach_servers_in_the_space(link: Link, tmp_path: Path) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    path = str(tmp_path / "srv.sock")
    over_unix = await asyncio.start_unix_server(upper, path)
    over_tcp = await asyncio.start_server(upper, "127.0.0.1", 0)
    for target in ({"unix": path}, {"tcp": over_tcp.sockets[0].getsockname()[1]}):
        flow = await link.open("connect", target)
        assert await flow.read() == {"connected": True}
        await flow.write(b"hello")
        flow.end()
        assert await flow.read() == Chunk(0, b"HELLO")
        assert await flow.read() is None
    over_tcp.close()
    over_unix.close()
    with pytest.raises(Refused, match=r"refused|No such file"):
        await (await link.open("connect", {"unix": path + "x"})).read()


async def test_unknown_kinds_and_bad_arguments_are_refused_and_the_agent_lives(link: Link) -> None:
    for kind, args in (
        ("nonsense", {}),
        ("exec", {"id": "x", "argv": "not a list"}),
        ("exec", {"id": 5, "argv": ["true"]}),
        ("exec", {"id": "y", "argv": ["true"], "env": {"A": 1}}),
        ("attach", {"id": "nobody"}),
        ("call", {"op": "nonsense"}),
        ("read", {"path": "a\0b"}),
        ("connect", {"tcp": 70000}),
    ):
        with pytest.raises(Refused):
            await (await link.open(kind, args)).read()
    _, _, told = await run(link, "true")
    assert told["exit"] == 0


# -- agents that lie -------------------------------------------------------------------------------------------------


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def lying_link(path: Path, behave: Behaviour) -> AsyncIterator[Link]:
    """Link to an agent that behaves as it is told."""
    serving: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)

    async def dial() -> Stream:
        return SocketStream(*await asyncio.open_unix_connection(path, limit=1 << 18))

    link = Link(dial, "liar")
    try:
        yield link
    finally:
        await link.close()
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def hello(**fields: object) -> bytes:
    return hello_frame({"session": "s", "received": 0, "resumed": False, **fields})


async def test_an_engines_complaint_in_the_stream_is_quoted(tmp_path: Path) -> None:
    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"OCI runtime exec failed: container is not running")
        await writer.drain()

    async with lying_link(tmp_path / "s", complain) as link:
        with pytest.raises(Broken, match="container is not running"):
            await link.connect()


async def test_an_agent_of_another_version_is_told_with_the_remedy(tmp_path: Path) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello().replace(b'"versions": [1, 1]', b'"versions": [0, 0]'))
        await writer.drain()

    async with lying_link(tmp_path / "s", old) as link:
        with pytest.raises(Broken, match="stop and start the space"):
            await link.connect()


@pytest.mark.parametrize("received", [5, -1, "x", None, 10**30])
async def test_a_hello_that_lies_about_what_it_received_is_refused(tmp_path: Path, received: object) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello(received=received))
        await writer.drain()
        await reader.read()

    async with lying_link(tmp_path / "s", lie) as link:
        with pytest.raises(Broken):
            await link.connect()


frames = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 4, m.OPEN, m.DATA, m.MESSAGE, m.CREDIT, m.END, m.RESET, 9]),
        st.integers(0, 5),
        st.one_of(
            st.binary(max_size=50),
            st.sampled_from([b"{}", b'{"exit":"x"}', b'{"exit":3,"signal":[]}', b"null", b'{"from":{"1":1e999}}']),
        ),
    ),
    max_size=30,
)


@given(script=frames, raw=st.binary(max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_an_agent_sends_only_its_own_link_fails(
    tmp_path: Path, script: list[tuple[int, int, bytes]], raw: bytes
) -> None:
    async def fuzz(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello())
        for kind, flow, payload in script:
            writer.write(m.HEADER.pack(len(payload), flow, kind, 1) + payload)
        writer.write(raw)
        await writer.drain()

    async with lying_link(tmp_path / os.urandom(4).hex(), fuzz) as link:
        try:
            flow = await asyncio.wait_for(link.open("exec", {"argv": ["x"]}), 5)
            while await asyncio.wait_for(flow.read(), 0.2) is not None:
                pass
        except (SpaceError, TimeoutError):
            pass


async def test_a_flood_is_held_to_the_window_and_harms_no_other_link(tmp_path: Path, link: Link) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello())
        await reader.readuntil(b'"kind"')
        while True:
            writer.write((m.HEADER.pack(0, 1, m.DATA, 1) * 1000 + m.HEADER.pack(0, 0, m.PING, 0)) * 10)
            await writer.drain()

    async with lying_link(tmp_path / "s", flood) as liar:
        flow = await liar.open("exec", {"argv": ["x"]})
        await asyncio.sleep(0.2)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            _, _, told = await run(link, "true")
            assert told["exit"] == 0
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()

        assert grown < 8_000_000
        assert not flow._items


async def test_messages_nobody_asked_for_break_the_link(tmp_path: Path) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello())
        await reader.readuntil(b'"kind"')
        writer.write((m.HEADER.pack(2, 1, m.MESSAGE, 0) + b"{}") * 5000)
        await writer.drain()
        await reader.read()

    async with lying_link(tmp_path / "s", chatter) as link:
        flow = await link.open("exec", {"argv": ["x"]})
        await asyncio.sleep(0.3)
        with pytest.raises(Unavailable, match="messages that nobody asked for"):
            while True:
                await flow.read()


async def test_a_silent_agent_is_dialled_again(
    monkeypatch: pytest.MonkeyPatch, link: Link, breakable: Breakable, agent: LocalEngine
) -> None:
    monkeypatch.setattr(link_module, "HEARTBEAT", 0.1)
    await link.connect()
    await agent.pause("a")  # not told to the link: to it, the agent is silent
    await asyncio.sleep(0.5)
    await agent.resume("a")
    _, _, told = await run(link, "true")

    assert told["exit"] == 0
    assert len(breakable.streams) > 1


async def test_a_sleeping_agent_is_left_in_peace(
    monkeypatch: pytest.MonkeyPatch, link: Link, breakable: Breakable, agent: LocalEngine
) -> None:
    monkeypatch.setattr(link_module, "HEARTBEAT", 0.05)
    await link.connect()
    link.sleep()
    await agent.pause("a")
    await asyncio.sleep(0.5)
    await agent.resume("a")
    link.wake()
    _, _, told = await run(link, "true")

    assert told["exit"] == 0
    assert len(breakable.streams) == 1
