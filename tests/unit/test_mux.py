"""The link's protocol, both ends in one process."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawdspace_ext.agent import flow as f
from clawdspace_ext.agent import hello, mux
from clawdspace_ext.agent import protocol as m


class Recorder(f.Handler):
    """Keeps what came, and consumes it when told to."""

    def __init__(self) -> None:
        self.flow: f.Flow | None = None
        self.data: dict[int, bytearray] = {}
        self.messages: list[dict[str, object]] = []
        self.ended = False
        self.reset: tuple[str, str] | None = None
        self.greedy = True

    def on_data(self, channel: int, data: bytes) -> None:
        self.data.setdefault(channel, bytearray()).extend(data)
        if self.greedy and self.flow is not None:
            self.flow.consumed(len(data))

    def on_message(self, message: dict[str, object]) -> None:
        self.messages.append(message)

    def on_end(self) -> None:
        self.ended = True

    def on_reset(self, code: str, text: str) -> None:
        self.reset = (code, text)


class Pair:
    """Two muxes; ``carry`` moves bytes between them until nothing moves."""

    def __init__(self) -> None:
        self.daemon = mux.Mux("s", initiator=True)
        self.agent = mux.Mux("s", initiator=False)
        self.opened: list[tuple[str, dict[str, object], Recorder]] = []
        self.agent.on_open = self._opened  # type: ignore[method-assign]
        self.attach()

    def _opened(self, flow: f.Flow, kind: str, args: dict[str, object]) -> None:
        recorder = Recorder()
        recorder.flow = flow
        flow.handler = recorder
        self.opened.append((kind, args, recorder))

    def attach(self) -> None:
        self.daemon.attach(self.agent.received)
        self.agent.attach(self.daemon.received)

    def open(self, kind: str = "x", **args: object) -> tuple[f.Flow, Recorder]:
        recorder = Recorder()
        flow = self.daemon.open(kind, args, recorder)
        recorder.flow = flow
        return flow, recorder

    def carry(self, piece: int = 1 << 20) -> None:
        moved = True
        while moved:
            moved = False
            for source, target in ((self.daemon, self.agent), (self.agent, self.daemon)):
                data = source.pull(1 << 17)
                for start in range(0, len(data), piece):
                    target.receive(data[start : start + piece])
                moved = moved or bool(data)


def test_a_flow_carries_arguments_data_messages_and_ends_in_order() -> None:
    pair = Pair()
    flow, ours = pair.open("exec", n=1)
    flow.write(b"one", 2)
    flow.message({"k": "v"})
    flow.end()
    pair.carry(piece=3)
    kind, args, theirs = pair.opened[0]

    assert (kind, args) == ("exec", {"n": 1})
    assert theirs.data == {2: b"one"}
    assert theirs.messages == [{"k": "v"}]
    assert theirs.ended

    assert theirs.flow is not None
    theirs.flow.write(b"back")
    theirs.flow.end()
    pair.carry()

    assert ours.data == {0: b"back"}
    assert not pair.daemon.flows
    assert not pair.agent.flows


def test_an_unread_flow_holds_one_window_and_lets_others_pass() -> None:
    pair = Pair()
    stuck, _ = pair.open("stuck")
    pair.carry()
    reader = pair.opened[0][2]
    reader.greedy = False
    stuck.write(b"x" * (m.WINDOW * 4))
    quick, _ = pair.open("quick")
    quick.write(b"y" * (m.WINDOW * 4))
    pair.carry()

    assert m.WINDOW - m.CHUNK < len(reader.data[0]) <= m.WINDOW
    assert len(pair.opened[1][2].data[0]) == m.WINDOW * 4

    reader.greedy = True
    assert reader.flow is not None
    reader.flow.consumed(len(reader.data[0]))
    pair.carry()
    assert len(reader.data[0]) == m.WINDOW * 4


def test_a_reset_reaches_the_other_side_with_its_reason() -> None:
    pair = Pair()
    _, ours = pair.open()
    pair.carry()
    flow = pair.opened[0][2].flow
    assert flow is not None
    flow.reset("not_found", "no such file")
    pair.carry()

    assert ours.reset == ("not_found", "no such file")
    assert not pair.daemon.flows


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=6), st.lists(st.integers(1, 90_000), max_size=30))
@settings(max_examples=60, deadline=None)
def test_every_byte_arrives_once_however_often_the_transport_breaks(sizes: list[int], cuts: list[int]) -> None:
    pair = Pair()
    flow, _ = pair.open()
    sent = b"".join(bytes([i % 251]) * size for i, size in enumerate(sizes))
    flow.write(sent)
    for cut in cuts:
        for source, target in ((pair.daemon, pair.agent), (pair.agent, pair.daemon)):
            target.receive(source.pull(1 << 17)[:cut])  # the rest is lost with the transport
        pair.daemon.detach()
        pair.agent.detach()
        pair.attach()
    pair.carry()

    assert bytes(pair.opened[0][2].data.get(0, b"")) == sent


def test_unacknowledged_frames_are_bounded() -> None:
    pair = Pair()
    for _ in range(20):
        flow, _ = pair.open()
        flow.write(b"x" * m.WINDOW)
    total = 0
    while data := pair.daemon.pull(1 << 20):
        total += len(data)

    assert total <= m.UNACKNOWLEDGED + m.MAX_PAYLOAD


def frame(kind: int, flow: int, payload: bytes = b"", channel: int = 0, length: int | None = None) -> bytes:
    return m.HEADER.pack(len(payload) if length is None else length, flow, kind, channel) + payload


HOSTILE = {
    "a giant frame": frame(m.DATA, 1, length=m.MAX_PAYLOAD + 1),
    "an unknown type": frame(99, 1),
    "an unknown uncounted type": frame(7, 0),
    "data for a flow nobody opened": frame(m.DATA, 3, b"x"),
    "a flow with our parity": frame(m.OPEN, 1, b'{"kind":"x"}'),
    "a flow without kind": frame(m.OPEN, 2, b"{}"),
    "arguments that are no JSON": frame(m.OPEN, 2, b"\xff"),
    "arguments that are no object": frame(m.OPEN, 2, b"[1]"),
    "JSON of endless depth": frame(m.MESSAGE, 1, b'{"a":' + b"[" * 60_000),
    "too much credit": frame(m.CREDIT, 1, m.CREDIT_SIZE.pack(m.WINDOW)) * 2,
    "credit of the wrong size": frame(m.CREDIT, 1, b"x"),
    "an acknowledgement of what was not sent": frame(m.ACK, 0, m.COUNT.pack(99)),
    "more data than the window": frame(m.DATA, 1, b"x" * m.MAX_PAYLOAD) * 5,
    "data after the end": frame(m.END, 1) + frame(m.DATA, 1, b"x"),
    "a hello in the middle": frame(m.HELLO, 0, b"{}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bytes_raise_link_error_and_nothing_else(what: str) -> None:
    daemon = mux.Mux("s", initiator=True, max_peer_flows=0)
    daemon.attach(0)
    daemon.open("x", {}, f.Handler())
    daemon.pull(1 << 20)
    with pytest.raises(m.LinkError):
        daemon.receive(HOSTILE[what])


kinds = st.sampled_from([m.HELLO, m.ACK, m.PING, m.PONG, m.OPEN, m.DATA, m.MESSAGE, m.CREDIT, m.END, m.RESET, 0, 255])
payloads = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([b"{}", b'{"kind":"x"}', b'{"code":1,"text":[]}', m.COUNT.pack(1), m.CREDIT_SIZE.pack(1), b"[[["]),
)


@given(st.lists(st.tuples(kinds, st.integers(0, 8), payloads), max_size=60), st.binary(max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_taken_or_refused_and_memory_stays_bounded(
    frames: list[tuple[int, int, bytes]], tail: bytes
) -> None:
    daemon = mux.Mux("s", initiator=True, max_peer_flows=2)
    daemon.attach(0)
    for _ in range(3):
        daemon.open("x", {}, Recorder())
    daemon.pull(1 << 20)
    try:
        for kind, flow, payload in frames:
            daemon.receive(frame(kind, flow, payload))
        daemon.receive(tail)
    except m.LinkError:
        return
    assert len(daemon.flows) <= 5
    assert len(daemon._buffer) <= m.MAX_PAYLOAD + m.HEADER.size


def test_a_peer_that_causes_replies_and_reads_none_is_cut_off() -> None:
    daemon = mux.Mux("s", initiator=True, max_peer_flows=0)
    daemon.attach(0)
    with pytest.raises(m.LinkError):
        for number in range(2, 10 * m.MAX_CONTROL, 2):
            daemon.receive(frame(m.OPEN, number, b'{"kind":"x"}'))


def test_a_hello_is_read_once_whole_and_quotes_what_is_none() -> None:
    whole = hello.hello_frame({"session": "s", "received": 3})
    for cut in range(len(whole)):
        assert hello.read_hello(whole[:cut]) is None
    read = hello.read_hello(whole + b"rest")
    assert read is not None
    fields, rest = read

    assert fields["received"] == 3
    assert rest == b"rest"
    assert hello.common_version(fields) == 1
    assert hello.common_version({"versions": [7, 9]}) is None
    with pytest.raises(m.LinkError, match="no such container"):
        hello.read_hello(b"OCI runtime exec failed: no such container")
    with pytest.raises(m.LinkError):
        hello.common_version(json.loads('{"versions":"x"}'))
