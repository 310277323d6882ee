"""The link's protocol: many flows over one byte stream that may break and come back.

Sans I/O, and the same code on both ends.  ``receive`` takes what the transport brought, ``pull`` gives what it should
carry.

Flows are opened by either side, carry data on numbered channels and JSON messages, and are ended or reset.  A flow may
have WINDOW unread bytes under way; the reader hands credit back with ``Flow.consumed``.  Frames that belong to flows
are counted; the other side acknowledges the count, and what it has not acknowledged is kept and sent again when a new
transport is attached to the same session, so that each byte arrives once.  Everything a peer can make us keep has a
bound: what goes beyond raises LinkError, after which the transport must be closed.
"""

from __future__ import annotations

import json

from .flow import Flow, Handler
from .outbox import Outbox
from .protocol import (
    ACK,
    ACK_BYTES,
    ACK_FRAMES,
    COUNT,
    CREDIT,
    CREDIT_SIZE,
    DATA,
    END,
    HEADER,
    MAX_FLOWS,
    MAX_PAYLOAD,
    MESSAGE,
    OPEN,
    PING,
    PONG,
    RESET,
    WINDOW,
    LinkError,
    parse_object,
    unpack,
)

MYPY = False
if MYPY:
    from typing import Any, Dict, List


class Mux:
    """One end of a session.  ``initiator`` is the daemon, whose flows have odd ids; the agent's are even.

    ``on_open(flow, kind, args)`` is called for each flow that the peer opens; it sets ``flow.handler`` or resets the
    flow.  ``max_peer_flows`` bounds how many the peer may have open.
    """

    def __init__(self, session: str, initiator: bool, max_peer_flows: int = MAX_FLOWS) -> None:
        self.session = session
        self.flows: Dict[int, Flow] = {}
        self.attached = False
        self.pongs = 0
        self.received = 0
        self._parity = 1 if initiator else 0
        self._next_id = 1 if initiator else 2
        self._peer_last_id = 0
        self._peer_flows = 0
        self._max_peer_flows = max_peer_flows
        self._outbox = Outbox(self._sent_all)
        self._transport_frames: List[bytes] = []
        self._owed: Dict[int, int] = {}
        self._buffer = bytearray()
        self._ack_frames = 0
        self._ack_bytes = 0

    def on_open(self, flow: Flow, kind: str, args: Dict[str, Any]) -> None:
        """Meet a flow the peer opened; refuses it unless overridden."""
        flow.reset("unsupported", "this side takes no flows of kind %s" % kind)

    def wake(self) -> None:
        """There is something to pull; replaced by whoever drives the transport."""

    # -- flows -------------------------------------------------------------------------------------------------------

    def open(self, kind: str, args: Dict[str, Any], handler: Handler) -> Flow:
        """Open a flow.  Raises ValueError when too many are open or the arguments do not fit in one frame."""
        if len(self.flows) >= MAX_FLOWS:
            raise ValueError("too many flows are open")
        payload = json.dumps(dict(args, kind=kind), separators=(",", ":")).encode()
        if len(payload) > MAX_PAYLOAD:
            raise ValueError("the arguments of a flow must fit in %d bytes" % MAX_PAYLOAD)
        flow = Flow(self, self._next_id)
        self._next_id += 2
        flow.handler = handler
        self.flows[flow.id] = flow
        self.control(OPEN, flow.id, payload)
        return flow

    def drop(self, flow: Flow) -> None:
        """Forget a flow on this side."""
        if self.flows.pop(flow.id, None) is not None and flow.id % 2 != self._parity:
            self._peer_flows -= 1
        self._owed.pop(flow.id, None)
        flow.forget()

    def lose(self, text: str) -> None:
        """End every flow because the session is over."""
        for flow in list(self.flows.values()):
            self.drop(flow)
            flow.handler.on_reset("lost", text)

    def ready(self, flow: Flow) -> None:
        """Put a flow in line for sending."""
        self._outbox.line_up(flow)
        self.wake()

    def give_credit(self, flow: Flow, size: int) -> None:
        """Owe the peer credit; it is sent in quarters of a window."""
        owed = self._owed.get(flow.id, 0) + size
        if owed >= WINDOW // 4:
            self._owed.pop(flow.id, None)
            self.control(CREDIT, flow.id, CREDIT_SIZE.pack(owed))
        else:
            self._owed[flow.id] = owed

    def control(self, kind: int, flow_id: int, payload: bytes) -> None:
        """Queue a counted frame ahead of data.  Raises LinkError when the peer makes us queue without end."""
        self._outbox.control(kind, flow_id, payload)
        self.wake()

    def _sent_all(self, flow: Flow) -> None:
        if flow.remote_ended:
            self.drop(flow)

    # -- transport ---------------------------------------------------------------------------------------------------

    def attach(self, peer_received: int) -> None:
        """Go on over a new transport whose other end has received so many of our counted frames."""
        self._outbox.attach(peer_received)
        self._buffer.clear()
        self._transport_frames = []
        self.attached = True
        self.wake()

    def detach(self) -> None:
        """The transport is gone; flows wait for the next one."""
        self.attached = False
        self._buffer.clear()

    def ping(self) -> None:
        """Ask for a sign of life; it arrives as one more in ``pongs``."""
        self._transport_frames.append(HEADER.pack(0, 0, PING, 0))
        self.wake()

    def pull(self, limit: int) -> bytes:
        """Return up to about ``limit`` bytes for the transport, acknowledgement included."""
        if not self.attached:
            return b""
        parts, self._transport_frames = self._transport_frames, []
        size = 0
        for frame in self._outbox.frames():
            parts.append(frame)
            size += len(frame)
            if size >= limit:
                break
        if self._ack_frames and (parts or self._ack_due()):
            self._ack_frames = self._ack_bytes = 0
            parts.append(HEADER.pack(COUNT.size, 0, ACK, 0) + COUNT.pack(self.received))
        return b"".join(parts)

    def _ack_due(self) -> bool:
        return self._ack_frames >= ACK_FRAMES or self._ack_bytes >= ACK_BYTES

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the transport.  Raises LinkError when they break the protocol."""
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= HEADER.size:
                length, flow_id, kind, channel = HEADER.unpack_from(buffer, position)
                if length > MAX_PAYLOAD:
                    raise LinkError("a frame claims %d bytes" % length)
                end = position + HEADER.size + length
                if len(buffer) < end:
                    break
                payload = bytes(buffer[position + HEADER.size : end])
                position = end
                self._frame(flow_id, kind, channel, payload)
        finally:
            del buffer[:position]
        if self._ack_due():
            self.wake()

    def _frame(self, flow_id: int, kind: int, channel: int, payload: bytes) -> None:
        if kind >= OPEN:
            self.received += 1
            self._ack_frames += 1
            self._ack_bytes += len(payload)
            self._counted(flow_id, kind, channel, payload)
        elif kind == ACK:
            self._outbox.acknowledged(unpack(COUNT, payload))
            if self._outbox.waiting:
                self.wake()
        elif kind == PING:
            self._transport_frames = [f for f in self._transport_frames if f[8] != PONG]
            self._transport_frames.append(HEADER.pack(0, 0, PONG, 0))
            self.wake()
        elif kind == PONG:
            self.pongs += 1
        else:
            raise LinkError("a frame has the unknown type %d" % kind)

    def _counted(self, flow_id: int, kind: int, channel: int, payload: bytes) -> None:
        if kind == OPEN:
            self._opened(flow_id, payload)
            return
        flow = self.flows.get(flow_id)
        if flow is None:
            known = self._next_id if flow_id % 2 == self._parity else self._peer_last_id + 2
            if not 0 < flow_id < known:
                raise LinkError("a frame names flow %d, which nobody opened" % flow_id)
            return  # the flow was reset here while the frame was under way
        if kind == CREDIT:
            self._credited(flow, unpack(CREDIT_SIZE, payload))
        elif kind == RESET:
            self.drop(flow)
            reason = parse_object(payload)
            flow.handler.on_reset(str(reason.get("code", "closed")), str(reason.get("text", "")))
        elif flow.remote_ended:
            raise LinkError("a flow goes on after its end")
        elif kind == DATA:
            self._took(flow, payload)
            flow.handler.on_data(channel, payload)
        elif kind == MESSAGE:
            self._took(flow, payload)
            message = parse_object(payload)
            flow.consumed(len(payload))
            flow.handler.on_message(message)
        elif kind == END:
            flow.remote_ended = True
            if flow.ended and not flow.pending_frames:
                self.drop(flow)
            flow.handler.on_end()
        else:
            raise LinkError("a frame has the unknown type %d" % kind)

    def _took(self, flow: Flow, payload: bytes) -> None:
        flow.unread += len(payload)
        if flow.unread > WINDOW:
            raise LinkError("a flow sends more than its credit")

    def _opened(self, flow_id: int, payload: bytes) -> None:
        if flow_id % 2 == self._parity or flow_id <= self._peer_last_id:
            raise LinkError("the peer opens flow %d out of turn" % flow_id)
        self._peer_last_id = flow_id
        args = parse_object(payload)
        kind = args.pop("kind", None)
        if not isinstance(kind, str):
            raise LinkError("a flow is opened without a kind")
        flow = Flow(self, flow_id)
        self.flows[flow_id] = flow
        self._peer_flows += 1
        if self._peer_flows > self._max_peer_flows:
            flow.reset("busy", "too many flows are open")
        else:
            self.on_open(flow, kind, args)

    def _credited(self, flow: Flow, size: int) -> None:
        flow.credit += size
        if flow.credit > WINDOW:
            raise LinkError("the peer grants more credit than a window")
        if flow.pending_frames:
            self.ready(flow)
