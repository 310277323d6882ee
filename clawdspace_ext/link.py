"""The daemon's side of the link: one per space, kept open, carrying flows to the agent.

The transport may break at any time and is dialled again; flows do not notice, because the mux sends again what was not
acknowledged.  A flow fails only when its session is lost: the agent is a new one, another daemon took over, or no
transport could be made for PATIENCE seconds.  Whatever the agent sends, the worst that happens is that its own link is
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from .agent.flow import Flow as MuxFlow
from .agent.hello import common_version, hello_frame, read_hello
from .agent.mux import Mux
from .agent.protocol import LinkError
from .errors import Broken, SpaceError, Unavailable
from .flow import Chunk, Flow
from .protocols import Stream

log = logging.getLogger(__name__)

HELLO_TIMEOUT = 15.0
PATIENCE = 30.0
HEARTBEAT = 15.0
FIRST_PAUSE = 0.01
PULL = 128 * 1024
MAX_REPLY = 32 * 1024 * 1024
MAX_HELLO = 128 * 1024
MAX_AGENT_FLOWS = 256

#: Serves a flow that the agent opened, of a kind and with arguments that may be anything; it ends or resets the flow.
OnFlow = Callable[[str, dict[str, Any], Flow], Awaitable[None]]


class Link:
    """The link to one space's agent.  ``dial`` makes a transport; ``name`` is for logs.

    It connects when first used and stays connected until ``close``.  The agent may open flows, MAX_AGENT_FLOWS at once,
    if there is an ``on_flow`` to serve them.
    """

    def __init__(self, dial: Callable[[], Awaitable[Stream]], name: str, on_flow: OnFlow | None = None) -> None:
        self._dial = dial
        self._name = name
        self._on_flow = on_flow
        self._serving: set[asyncio.Task[None]] = set()
        self._mux = self._new_mux()
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._to_send = asyncio.Event()
        self._failure: SpaceError | None = None
        self._asleep = False
        self._transports = 0

    @property
    def alive(self) -> bool:
        """Whether a transport is attached now."""
        return self._ready.is_set()

    @property
    def flows(self) -> int:
        """How many flows are open: what is in flight in the space."""
        return len(self._mux.flows)

    @property
    def reconnects(self) -> int:
        """How often it had to be made again."""
        return max(0, self._transports - 1)

    async def connect(self) -> None:
        """Wait until the agent has answered.  Raises Unavailable, or Broken when something else than an agent did."""
        if self._task is None or self._task.done():
            self._failure = None
            self._task = asyncio.create_task(self._keep_connected(), name=f"link {self._name}")
        if self._ready.is_set():
            return
        waiter = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({waiter, self._task}, timeout=HELLO_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if not self._ready.is_set():
            raise self._failure or Unavailable(
                f"the agent of {self._name} does not answer",
                remedy="stop and start the space; its files are kept",
            )

    async def open(self, kind: str, args: dict[str, Any]) -> Flow:
        """Open a flow of a kind the agent knows.  Raises Unavailable, Broken."""
        if not self._ready.is_set():
            await self.connect()
        flow = Flow()
        try:
            flow.bind(self._mux.open(kind, args, flow))
        except ValueError as error:
            raise Unavailable(f"{self._name}: {error}") from None
        return flow

    async def call(self, op: str, args: dict[str, Any] | None = None) -> Any:
        """Ask the agent one thing and return its JSON answer (any JSON value, at most 32 MiB).

        Raises Refused with what the agent said, Broken when the answer is not JSON.
        """
        flow = await self.open("call", {**(args or {}), "op": op})
        flow.end()
        parts: list[bytes] = []
        size = 0
        while (item := await flow.read()) is not None:
            if isinstance(item, Chunk):
                parts.append(item.data)
                size += len(item.data)
            if size > MAX_REPLY:
                flow.reset()
                raise Broken(f"{self._name}: the answer to {op} is longer than {MAX_REPLY} bytes")
        try:
            return json.loads(b"".join(parts))
        except (ValueError, RecursionError):
            raise Broken(f"{self._name}: the answer to {op} is not JSON") from None

    def sleep(self) -> None:
        """The space is paused: silence means nothing until ``wake``."""
        self._asleep = True

    def wake(self) -> None:
        """The space runs again."""
        self._asleep = False

    async def close(self, reason: str = "the space is stopped") -> None:
        """Hang up and fail what is open."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._mux.lose(reason)
        self._mux = self._new_mux()

    # -- the transport -----------------------------------------------------------------------------------------------

    def _new_mux(self) -> Mux:
        mux = Mux(secrets.token_hex(8), initiator=True, max_peer_flows=MAX_AGENT_FLOWS if self._on_flow else 0)
        mux.wake = lambda: self._to_send.set()  # type: ignore[method-assign]  # the link is what drives it
        mux.on_open = self._opened  # type: ignore[method-assign]
        return mux

    def _opened(self, flow: MuxFlow, kind: str, args: dict[str, Any]) -> None:
        """Have a flow of the agent served; a flow that is lost ends its service by itself."""
        assert self._on_flow is not None  # else the mux refuses
        if len(self._serving) >= MAX_AGENT_FLOWS:  # flows it gave up count while they are being served
            flow.reset("busy", "too many flows are open")
            return
        conversation = Flow()
        conversation.bind(flow)
        flow.handler = conversation
        task = asyncio.create_task(self._serve(self._on_flow(kind, args, conversation), conversation))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, service: Awaitable[None], flow: Flow) -> None:
        with contextlib.suppress(LinkError):  # an agent that breaks the protocol ends its link by that
            try:
                await service
            except SpaceError as error:
                log.debug("%s: a flow of the agent failed: %s", self._name, error)
                flow.reset("failed", error.message)

    async def _keep_connected(self) -> None:
        """Dial, pump, and dial again, until patience ends or the agent breaks the protocol."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        pause = FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(HELLO_TIMEOUT):
                    stream = await self._dial()
                with contextlib.closing(stream):
                    if await self._meet(stream):
                        pause = FIRST_PAUSE
                        try:
                            await self._pump(stream)
                        finally:
                            deadline = loop.time() + PATIENCE
            except LinkError as error:
                self._fail(Broken(f"the agent of {self._name} broke the protocol: {error}"))
                return
            except (SpaceError, OSError, TimeoutError) as error:
                if loop.time() > deadline:
                    self._fail(Unavailable(f"the agent of {self._name} cannot be reached: {error}"))
                    return
                self._failure = error if isinstance(error, SpaceError) else None
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)

    def _fail(self, failure: SpaceError) -> None:
        log.warning("%s", failure)
        self._failure = failure
        self._mux.lose(failure.message)
        self._mux = self._new_mux()

    async def _meet(self, stream: Stream) -> bool:
        """Exchange hellos; return False when the session was lost and a new one must be begun."""
        mux = self._mux
        began = mux.received > 0 or bool(mux.flows)
        stream.write(hello_frame({"session": mux.session, "received": mux.received}))
        async with asyncio.timeout(HELLO_TIMEOUT):
            fields, rest = await self._read_hello(stream)
        if common_version(fields) is None:
            raise LinkError(
                f"it speaks versions {fields.get('versions')} of the link; stop and start the space to renew it"
            )
        if began and fields.get("resumed") is not True:
            mux.lose("the agent does not know this session any more")
            self._mux = self._new_mux()
            return False
        received = fields.get("received")
        if not isinstance(received, int) or received < 0:
            raise LinkError("a hello without a count")
        mux.attach(received)
        mux.receive(rest)
        return True

    async def _read_hello(self, stream: Stream) -> tuple[dict[str, Any], bytes]:
        data = b""
        while (hello := read_hello(data)) is None:
            if len(data) > MAX_HELLO:
                raise LinkError("an endless hello")
            piece = await stream.read()
            if not piece:
                raise Unavailable(f"{self._name}: the stream ended before the agent spoke: {data[:300]!r}")
            data += piece
        return hello

    async def _pump(self, stream: Stream) -> None:
        """Carry the mux over a transport until that ends."""
        self._failure = None
        self._transports += 1
        self._ready.set()
        mux = self._mux
        jobs = {
            asyncio.create_task(self._receive(stream, mux)),
            asyncio.create_task(self._send(stream, mux)),
            asyncio.create_task(self._beat(mux)),
        }
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ready.clear()
            mux.detach()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        for job in done:
            job.result()

    async def _receive(self, stream: Stream, mux: Mux) -> None:
        while data := await stream.read():
            mux.receive(data)

    async def _send(self, stream: Stream, mux: Mux) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while data := mux.pull(PULL):
                stream.write(data)
                await stream.drain()

    async def _beat(self, mux: Mux) -> None:
        """End the transport when the agent is silent though its space is awake."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            heard, slept = mux.pongs + mux.received, self._asleep
            if slept:
                continue
            mux.ping()
            await asyncio.sleep(HEARTBEAT)
            if mux.pongs + mux.received == heard and not self._asleep:
                log.info("the agent of %s is silent: dialling again", self._name)
                return
