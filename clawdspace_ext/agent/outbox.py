"""What one end of the link has to send: in which order, how much at once, and again after a broken transport."""

from __future__ import annotations

from collections import deque

from .flow import Flow
from .protocol import HEADER, MAX_CONTROL, UNACKNOWLEDGED, LinkError

MYPY = False
if MYPY:
    from typing import Callable, Deque, Dict, Iterator


class Outbox:
    """Counted frames on their way to the peer.

    Control frames go first, then one frame of each flow in turn.  What was handed out is kept until the peer has
    acknowledged it; no more than UNACKNOWLEDGED bytes are handed out beyond that.  ``on_sent_all(flow)`` is called when
    the end of a flow was handed out.
    """

    def __init__(self, on_sent_all: Callable[[Flow], None]) -> None:
        self._on_sent_all = on_sent_all
        self._sent = 0
        self._unacked: Deque[bytes] = deque()
        self._unacked_bytes = 0
        self._resend = -1
        self._control: Deque[bytes] = deque()
        self._line: Deque[Flow] = deque()
        self._in_line: Dict[int, None] = {}

    @property
    def waiting(self) -> bool:
        """Whether there are frames that were never handed out."""
        return bool(self._control or self._line)

    def control(self, kind: int, flow_id: int, payload: bytes) -> None:
        """Queue a frame ahead of data.  Raises LinkError when the peer makes us queue without end."""
        if len(self._control) >= MAX_CONTROL:
            raise LinkError("the peer causes replies and does not read them")
        self._control.append(HEADER.pack(len(payload), flow_id, kind, 0) + payload)

    def line_up(self, flow: Flow) -> None:
        """Let a flow with something to send have its turn."""
        if flow.id not in self._in_line:
            self._in_line[flow.id] = None
            self._line.append(flow)

    def frames(self) -> Iterator[bytes]:
        """Hand out frames, old ones again first, while the bound allows it."""
        while self._resend >= 0:
            frame = self._unacked[self._resend]
            self._resend = self._resend + 1 if self._resend + 1 < len(self._unacked) else -1
            yield frame
        while self._unacked_bytes < UNACKNOWLEDGED:
            if self._control:
                yield self._keep(self._control.popleft())
            elif self._line:
                frame = self._next_of(self._line.popleft())
                if frame:
                    yield self._keep(frame)
            else:
                return

    def attach(self, received: int) -> None:
        """Begin again behind the frames that the peer has received.  Raises LinkError when that cannot be."""
        missing = self._sent - received
        if not 0 <= missing <= len(self._unacked):
            raise LinkError("the peer claims to have received %d of %d frames" % (received, self._sent))
        self._forget(len(self._unacked) - missing)
        self._resend = 0 if missing else -1

    def acknowledged(self, count: int) -> None:
        """Forget the first ``count`` frames of the session.  Raises LinkError when the peer cannot have them."""
        self._forget(count - (self._sent - len(self._unacked)))

    def _keep(self, frame: bytes) -> bytes:
        self._sent += 1
        self._unacked.append(frame)
        self._unacked_bytes += len(frame)
        return frame

    def _next_of(self, flow: Flow) -> bytes:
        """Take one frame of a flow and put it at the end of the line; without credit it leaves the line."""
        self._in_line.pop(flow.id, None)
        frame = flow.next_frame() if flow.open else b""
        if frame and flow.pending_frames:
            self.line_up(flow)
        if flow.ended and not flow.pending_frames:
            self._on_sent_all(flow)
        return frame

    def _forget(self, frames: int) -> None:
        unsent = len(self._unacked) - self._resend if self._resend >= 0 else 0
        if not 0 <= frames <= len(self._unacked) - unsent:
            raise LinkError("the peer acknowledges frames it cannot have")
        for _ in range(frames):
            self._unacked_bytes -= len(self._unacked.popleft())
        if self._resend >= 0:
            self._resend -= frames
