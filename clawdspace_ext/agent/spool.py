"""What a kernel said, numbered and kept until the daemon has it."""

from __future__ import annotations

import struct
from collections import deque

from .frames import encode

MYPY = False
if MYPY:
    from typing import Deque, List, Optional, Tuple

    from .flow import Flow

#: A message's first part: its number, and the channel it came on.
HEAD = struct.Struct(">QB")


class Spool:
    """Messages in order; those not acknowledged are sent again on the next flow that follows.

    It takes whatever is added: who adds looks at ``size`` (bytes) and stops reading in time.  ``last`` is the number of
    the newest message.
    """

    def __init__(self) -> None:
        self.size = 0
        self.last = 0
        self._sent: Deque[Tuple[int, bytes]] = deque()
        self._unsent: Deque[Tuple[int, bytes]] = deque()
        self._offset = 0
        self._flow: Optional[Flow] = None

    def add(self, channel: int, parts: List[bytes]) -> None:
        """Number a message, keep it and send it when there is room."""
        self.last += 1
        data = encode([HEAD.pack(self.last, channel), *parts])
        self._unsent.append((self.last, data))
        self.size += len(data)
        self.pump()

    def follow(self, flow: Optional[Flow]) -> None:
        """Send on ``flow`` from now on, beginning with the oldest message that is not acknowledged."""
        self._flow = flow
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self._offset = 0

    def acknowledge(self, number: int) -> None:
        """Forget the messages up to ``number``, as far as they have been sent."""
        while self._sent and self._sent[0][0] <= number:
            self.size -= len(self._sent.popleft()[1])

    def discard(self, number: int) -> None:
        """Forget the messages up to ``number``, which the other side had from an earlier flow."""
        while self._unsent and self._unsent[0][0] <= number:
            self.size -= len(self._unsent.popleft()[1])

    def pump(self) -> None:
        """Write as much as the flow has room for."""
        flow = self._flow
        while flow is not None and self._unsent and flow.room > 0:
            data = self._unsent[0][1]
            end = min(len(data), self._offset + flow.room)
            flow.write(data[self._offset : end])
            self._offset = end
            if end == len(data):
                self._sent.append(self._unsent.popleft())
                self._offset = 0
