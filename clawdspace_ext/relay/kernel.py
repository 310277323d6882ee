"""One kernel: its process in a space, followed over the link, and its sockets outside."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..agent.frames import ZmtpError, encode
from ..agent.kernel_process import CONTROL, EVENT
from ..errors import Broken, NotFound, Refused, SpaceError, Unavailable
from ..flow import Chunk, Flow
from ..service import Spaces
from ..spaces import SpaceState
from . import deaths
from .counter import Counter
from .deaths import Ending
from .messages import Malformed, Message, Signer, compose
from .outside import Outside
from .reception import Reception
from .records import KernelRecord

log = logging.getLogger(__name__)

#: ``{agent}`` is the folder of the agent's own files; the space's first Python on PATH must have ipykernel.
ARGV = ("python3", "{agent}/launcher.py", "-f", "{connection_file}")
#: Seconds a kernel has to end when asked politely.
GRACE = 3.0
#: Seconds that output waits after a daemon's restart for the clients to come back.
RETURN_PATIENCE = 3.0
RETURN_SETTLING = 0.25
RETRY_PAUSE = 0.2
#: The identity of the daemon's own requests; their replies are for nobody.
OWN_IDENTITY = b"\0daemon"


class KernelState(StrEnum):
    """Whether a kernel's process runs."""

    RUNNING = "running"
    DEAD = "dead"


class Kernel:
    """A kernel in ``record.space``, whose sockets lie in ``folder``.

    It goes on whatever happens to the link; a request waits while the link is away or the kernel restarts.  Set
    ``space_changed`` when its space may have changed its state.
    """

    def __init__(self, spaces: Spaces, record: KernelRecord, folder: Path) -> None:
        self.record = record
        self.state = KernelState.DEAD
        self.ending: Ending | None = None
        self.space_changed = asyncio.Event()
        self._spaces = spaces
        self._outside = Outside(folder, record.key, self._request)
        self._inside = Signer(record.inside_key.encode())
        self._pid = 0
        self._reception = Reception(Counter(folder / "received"), self._hear)
        self._flow: Flow | None = None
        self._attached = asyncio.Event()
        self._alive = asyncio.Event()
        self._ended = asyncio.Event()
        self._sending = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None

    @property
    def connection_info(self) -> dict[str, Any]:
        """What a client needs to connect, the key included."""
        return self._outside.connection_info

    async def listen(self) -> None:
        """Open the sockets for clients."""
        await self._outside.listen()

    async def start(self) -> None:
        """Start its process, the first or the next one.  Raises SpaceError when that fails."""
        self._outside.relink()
        space = await self._spaces.get(self.record.space)
        link = await self._spaces.link(self.record.space)
        env = {**self._spaces.environment(space), **self.record.env}
        started = await link.call(
            "kernel.start",
            {"id": self.record.short, "argv": list(ARGV), "env": env, "key": self.record.inside_key},
        )
        if not isinstance(started, dict) or not all(isinstance(started.get(name), int) for name in ("pid", "last")):
            raise Broken("the agent does not say which process it started")
        self._reception.counts_from(started["last"])
        self._lives(started["pid"])
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name=f"kernel {self.record.id}")

    def resume(self) -> None:
        """Go on with a kernel that an earlier daemon started."""
        self._lives(0)
        self._follower = asyncio.create_task(self._follow_again(), name=f"kernel {self.record.id}")

    async def signal(self, number: int) -> None:
        """Signal its process group; one that has ended is no error."""
        if self.state is KernelState.RUNNING:
            link = await self._spaces.link(self.record.space)
            await link.call("kernel.signal", {"id": self.record.short, "signal": number})

    async def shutdown(self, *, restart: bool) -> None:
        """Ask it to end, insist after GRACE seconds, and return when it has ended."""
        if self.state is KernelState.DEAD:
            return
        request = compose("shutdown_request", {"restart": restart}, identities=[OWN_IDENTITY])
        try:
            async with asyncio.timeout(GRACE):
                await self._request(CONTROL, request)
                await self._ended.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once, and return when it has ended."""
        await self.signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(GRACE):
                await self._ended.wait()
        except TimeoutError:
            raise Unavailable(f"the kernel {self.record.id} does not end") from None

    async def forget(self) -> None:
        """End it and let its space forget it, if that can be reached."""
        if await self._space_ending() is None:
            link = await self._spaces.link(self.record.space)
            await link.call("kernel.forget", {"id": self.record.short})

    async def close(self) -> None:
        """Stop following and close the sockets; the process goes on."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._reception.close()
        self._outside.close()

    # -- life --------------------------------------------------------------------------------------------------------

    def _lives(self, pid: int) -> None:
        self._pid = pid
        self.state = KernelState.RUNNING
        self.ending = None
        self._ended.clear()
        self._alive.set()

    def _dies(self, ending: Ending) -> None:
        log.info("kernel %s: %r", self.record.id, ending.reason)
        self.state = KernelState.DEAD
        self.ending = ending
        self._alive.clear()
        self._ended.set()

    # -- requests ----------------------------------------------------------------------------------------------------

    async def _request(self, channel: int, message: Message) -> None:
        """Pass a request on, in its turn, waking the space if it sleeps."""
        data = encode([bytes([channel]), *message.signed(self._inside)])
        async with self._sending:
            while True:
                await self._alive.wait()
                try:
                    await self._spaces.link(self.record.space)
                    await self._attached.wait()
                    if self._flow is not None:
                        await self._flow.write(data)
                        return
                except SpaceError as error:
                    log.info("kernel %s: a request waits: %s", self.record.id, error)
                    await asyncio.sleep(RETRY_PAUSE)

    # -- following ---------------------------------------------------------------------------------------------------

    async def _follow_again(self) -> None:
        """Let clients come back before there is anything to miss."""
        try:
            async with asyncio.timeout(RETURN_PATIENCE):
                await self._outside.iopub.met.wait()
                await asyncio.sleep(RETURN_SETTLING)
        except TimeoutError:
            pass
        await self._follow()

    async def _follow(self) -> None:
        while True:
            await self._alive.wait()
            await self._awake()
            try:
                ending = await self._space_ending()
                if ending is not None:
                    self._dies(ending)
                    continue
                link = await self._spaces.link(self.record.space)
                flow = await link.open("kernel.attach", {"id": self.record.short, "received": self._reception.received})
                await self._read(flow)
            except Refused as error:
                if error.reason == "not_found":
                    self._dies(Ending(1, "the processes of its space were ended"))
            except (SpaceError, ZmtpError) as error:
                log.info("kernel %s: %s", self.record.id, error)
            await asyncio.sleep(RETRY_PAUSE)

    async def _awake(self) -> None:
        """Wait while the space sleeps: looking after a kernel is no reason to wake it."""
        while await self._is_asleep():
            self.space_changed.clear()
            await self.space_changed.wait()

    async def _space_ending(self) -> Ending | None:
        return await deaths.of_space(self._spaces, self.record.space, self.record.engine)

    async def _is_asleep(self) -> bool:
        try:
            return (await self._spaces.get(self.record.space)).state is SpaceState.PAUSED
        except NotFound:
            return False

    async def _read(self, flow: Flow) -> None:
        """Take what one flow brings, until it is lost."""
        self._reception.attach(flow)
        try:
            while (item := await flow.read()) is not None:
                if isinstance(item, Chunk):
                    self._reception.take(item.data)
                    await self._outside.catch_up()
                else:
                    self._meet(flow, item)
        finally:
            self._attached.clear()
            self._flow = None
            self._reception.detach()
            flow.reset()

    def _meet(self, flow: Flow, greeting: dict[str, Any]) -> None:
        self._flow = flow
        self._attached.set()
        if isinstance(greeting.get("pid"), int):
            self._pid = greeting["pid"]
        if greeting.get("running") is False:
            self._dies(deaths.UNKNOWN)  # the report that says more may be on its way

    def _hear(self, channel: int, parts: list[bytes]) -> None:
        """Pass on what the kernel said.  Raises Malformed."""
        if channel == EVENT:
            self._learn(b"".join(parts))
            return
        message = Message.parse(parts)
        if message.header()["msg_type"] != "iopub_welcome":
            self._outside.deliver(channel, message)

    def _learn(self, event: bytes) -> None:
        try:
            report = json.loads(event)
        except (ValueError, RecursionError):
            raise Malformed("an event is not JSON") from None
        if isinstance(report, dict) and report.get("exited") == self._pid:
            self._dies(deaths.of_process(report, self.record.memory))
