"""What a kernel's agent sends, over one flow after another: each message once, in order, acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..agent.frames import Framer
from ..agent.spool import HEAD
from ..flow import Flow
from .counter import Counter
from .messages import Malformed

log = logging.getLogger(__name__)

#: Seconds within which messages taken in are acknowledged to the agent, and bytes after which they are at once.
ACK_DELAY = 0.005
ACK_BYTES = 512 * 1024


class Reception:
    """Hands what comes to ``on_message(channel, parts)``, which raises Malformed for what it cannot understand.

    ``ignored`` counts the messages that were no messages.
    """

    def __init__(self, received: Counter, on_message: Callable[[int, list[bytes]], None]) -> None:
        self.ignored = 0
        self._received = received
        self._on_message = on_message
        self._flow: Flow | None = None
        self._framer = Framer()
        self._unacknowledged = 0
        self._acking: asyncio.TimerHandle | None = None

    @property
    def received(self) -> int:
        """The number of the last message that was dealt with."""
        return self._received.value

    def counts_from(self, last: int) -> None:
        """Learn that the agent's newest message is number ``last``: it may be another agent, which counts anew."""
        if last < self._received.value:
            self._received.value = 0

    def attach(self, flow: Flow) -> None:
        """Take in what comes on ``flow`` from now on."""
        self._flow = flow
        self._framer = Framer()

    def detach(self) -> None:
        """Nothing more comes for now."""
        self._flow = None
        if self._acking is not None:
            self._acking.cancel()
            self._acking = None

    def close(self) -> None:
        """Nothing more comes."""
        self.detach()
        self._received.close()

    def take(self, data: bytes) -> None:
        """Deal with the messages that ``data`` completes.  Raises ZmtpError when it breaks the framing."""
        for parts in self._framer.receive(data):
            self._message(parts)
        self._unacknowledged += len(data)
        if self._unacknowledged >= ACK_BYTES:
            self._acknowledge()
        elif self._acking is None:
            self._acking = asyncio.get_running_loop().call_later(ACK_DELAY, self._acknowledge)

    def _message(self, parts: list[bytes]) -> None:
        try:
            if len(parts[0]) != HEAD.size:
                raise Malformed("no number")
            number, channel = HEAD.unpack(parts[0])
            if number <= self._received.value:
                return  # the agent sent it again, not knowing that it had arrived
            self._on_message(channel, parts[1:])
            self._received.value = number
        except Malformed as error:
            self.ignored += 1
            log.debug("a message is ignored: %s", error)

    def _acknowledge(self) -> None:
        if self._acking is not None:
            self._acking.cancel()
            self._acking = None
        self._unacknowledged = 0
        if self._flow is not None:
            self._flow.send({"ack": self._received.value})
