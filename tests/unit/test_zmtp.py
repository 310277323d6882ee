"""The codec against itself, against noise, and against real ZeroMQ sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from clawdspace_ext.agent import frames, zmtp

messages_of_parts = st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=5), max_size=6)


def shake_hands(one: zmtp.Codec, other: zmtp.Codec) -> None:
    """Carry both sides' greetings and handshakes until neither has more to say."""
    while True:
        first, second = one.outgoing(), other.outgoing()
        if not first and not second:
            return
        other.receive(first)
        one.receive(second)


@given(messages_of_parts, st.integers(1, 700))
def test_messages_arrive_whole_however_the_stream_is_cut(messages: list[list[bytes]], cut: int) -> None:
    sender, receiver = zmtp.Codec("DEALER", b"me"), zmtp.Codec("ROUTER")
    stream = sender.outgoing()
    sender.receive(receiver.outgoing())
    stream += sender.outgoing() + b"".join(frames.encode(parts) for parts in messages)
    arrived = []
    for start in range(0, len(stream), cut):
        arrived += receiver.receive(stream[start : start + cut])
    assert arrived == messages
    assert receiver.peer_identity == b"me"


@given(st.binary(max_size=400), st.booleans())
def test_noise_raises_nothing_but_zmtp_error(noise: bytes, greeted: bool) -> None:
    codec = zmtp.Codec("ROUTER")
    if greeted:
        shake_hands(codec, zmtp.Codec("DEALER"))
    try:
        codec.receive(noise)
    except frames.ZmtpError:
        pass


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 50))
def test_a_message_beyond_the_bound_is_swallowed_and_the_next_one_arrives(sizes: list[int], cut: int) -> None:
    sender, receiver = zmtp.Codec("DEALER"), zmtp.Codec("ROUTER", max_message=400)
    shake_hands(sender, receiver)
    stream = frames.encode([b"x" * size for size in sizes]) + frames.encode([b"next"])
    arrived = []
    for start in range(0, len(stream), cut):
        arrived += receiver.receive(stream[start : start + cut])
    too_large = sum(sizes) > 400
    assert arrived[-1] == [b"next"]
    assert receiver.swallowed == too_large
    assert len(arrived) == (1 if too_large else 2)


def test_a_message_of_endless_parts_is_swallowed() -> None:
    sender, receiver = zmtp.Codec("DEALER"), zmtp.Codec("ROUTER")
    shake_hands(sender, receiver)
    assert receiver.receive(frames.encode([b""] * (frames.MAX_PARTS + 1)) + frames.encode([b"next"])) == [[b"next"]]


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" + b"\0" * 8 + b"\x7f\x01",  # ZMTP 2
        zmtp._GREETING.replace(b"NULL", b"CURV"),
        zmtp._GREETING + zmtp._command(b"READY", zmtp._property(b"Socket-Type", b"SUB")),
        zmtp._GREETING + frames.encode([b"before the handshake"]),
        zmtp._GREETING + zmtp._command(b"READY", b"\x05"),
        zmtp._GREETING + frames.head(frames.COMMAND, 10_000),
    ],
)
def test_a_peer_that_cannot_be_talked_to_is_an_error(stream: bytes) -> None:
    with pytest.raises(frames.ZmtpError):
        zmtp.Codec("ROUTER").receive(stream)


def test_subscriptions_come_and_go_in_both_dialects() -> None:
    """3.1 sends commands, 3.0 messages."""
    publisher, subscriber = zmtp.Codec("XPUB"), zmtp.Codec("SUB")
    shake_hands(publisher, subscriber)
    assert publisher.receive(subscriber.subscribe(b"ab") + frames.encode([b"\x01xy"])) == []
    assert publisher.wants(b"abc")
    assert publisher.wants(b"xyz")
    assert not publisher.wants(b"a")
    publisher.receive(frames.encode([b"\x00xy"]) + zmtp._command(b"CANCEL", b"ab"))
    assert not publisher.wants(b"abc")
    assert not publisher.wants(b"xyz")


def test_endless_subscriptions_are_an_error() -> None:
    publisher, subscriber = zmtp.Codec("XPUB"), zmtp.Codec("SUB")
    shake_hands(publisher, subscriber)
    with pytest.raises(frames.ZmtpError):
        publisher.receive(b"".join(subscriber.subscribe(b"%d" % n) for n in range(zmtp.MAX_TOPICS + 1)))


def test_a_ping_is_answered_with_its_own_context() -> None:
    server, client = zmtp.Codec("REP"), zmtp.Codec("DEALER")
    shake_hands(server, client)
    server.receive(zmtp._command(b"PING", b"\0\x0ahello"))
    assert server.outgoing() == zmtp._command(b"PONG", b"hello")


# -- real ZeroMQ sockets -----------------------------------------------------------------------------------------------


class Wire:
    """Our codec on a connected, blocking unix socket."""

    def __init__(self, sock: socket.socket, codec: zmtp.Codec) -> None:
        self.sock = sock
        self.codec = codec
        self.sock.settimeout(5)
        self.sock.sendall(codec.outgoing())
        while not codec.ready:
            self.turn()

    def turn(self) -> list[list[bytes]]:
        data = self.sock.recv(65536)
        assert data, "the peer hung up"
        messages = self.codec.receive(data)
        self.sock.sendall(self.codec.outgoing())
        return messages

    def send(self, parts: list[bytes]) -> None:
        self.sock.sendall(frames.encode(parts))

    def receive(self, count: int = 1) -> list[list[bytes]]:
        messages: list[list[bytes]] = []
        while len(messages) < count:
            messages += self.turn()
        return messages


@pytest.fixture(scope="module")
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def connect_ours(theirs: zmq.Socket[bytes], path: Path, codec: zmtp.Codec) -> Wire:
    theirs.bind(f"ipc://{path}")
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return Wire(sock, codec)


def accept_theirs(theirs: zmq.Socket[bytes], path: Path, codec: zmtp.Codec) -> Wire:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    server.settimeout(5)
    theirs.connect(f"ipc://{path}")
    sock, _ = server.accept()
    server.close()
    return Wire(sock, codec)


@pytest.fixture(scope="module")
def with_router(context: zmq.Context[zmq.Socket[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    router = context.socket(zmq.ROUTER)
    router.rcvtimeo = 5000
    wire = connect_ours(router, tmp_path_factory.mktemp("z") / "router", zmtp.Codec("DEALER", b"our name"))
    yield router, wire
    wire.sock.close()
    router.close()


@pytest.fixture(scope="module")
def with_dealer(context: zmq.Context[zmq.Socket[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    dealer = context.socket(zmq.DEALER)
    dealer.rcvtimeo = 5000
    dealer.identity = b"their name"
    wire = accept_theirs(dealer, tmp_path_factory.mktemp("z") / "dealer", zmtp.Codec("ROUTER"))
    yield dealer, wire
    wire.sock.close()
    dealer.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=100_000), min_size=1, max_size=5))
def test_a_real_router_and_our_dealer_understand_each_other(
    with_router: tuple[zmq.Socket[bytes], Wire], parts: list[bytes]
) -> None:
    router, wire = with_router
    wire.send(parts)
    assert router.recv_multipart() == [b"our name", *parts]
    router.send_multipart([b"our name", *parts])
    assert wire.receive() == [parts]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=100_000), min_size=1, max_size=5))
def test_a_real_dealer_and_our_router_understand_each_other(
    with_dealer: tuple[zmq.Socket[bytes], Wire], parts: list[bytes]
) -> None:
    dealer, wire = with_dealer
    assert wire.codec.peer_identity == b"their name"
    dealer.send_multipart(parts)
    assert wire.receive() == [parts]
    wire.send(parts)
    assert dealer.recv_multipart() == parts


def test_a_real_xpub_publishes_to_our_sub(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with context.socket(zmq.XPUB) as publisher:
        publisher.rcvtimeo = 5000
        wire = connect_ours(publisher, tmp_path / "xpub", zmtp.Codec("SUB"))
        wire.sock.sendall(wire.codec.subscribe(b"kernel"))
        assert publisher.recv() == b"\x01kernel"
        publisher.send_multipart([b"other", b"1"])
        publisher.send_multipart([b"kernel.stream", b"2"])
        assert wire.receive() == [[b"kernel.stream", b"2"]]
        wire.sock.close()


def test_a_real_sub_subscribes_at_our_xpub(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with context.socket(zmq.SUB) as subscriber:
        subscriber.rcvtimeo = 5000
        subscriber.subscribe(b"kernel")
        wire = accept_theirs(subscriber, tmp_path / "sub", zmtp.Codec("XPUB"))
        while not wire.codec.wants(b"kernel.stream"):
            wire.turn()
        wire.send([b"kernel.stream", b"1"])
        assert subscriber.recv_multipart() == [b"kernel.stream", b"1"]
        wire.sock.close()


def test_a_real_heartbeat_request_is_echoed(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    with context.socket(zmq.REQ) as request:
        request.rcvtimeo = 5000
        wire = accept_theirs(request, tmp_path / "req", zmtp.Codec("REP"))
        request.send(b"ping")
        (parts,) = wire.receive()
        wire.send(parts)
        assert request.recv() == b"ping"
        wire.sock.close()


def test_real_protocol_heartbeats_are_answered(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> None:
    """A peer that hears no PONG hangs up, and its next message would not come."""
    with context.socket(zmq.DEALER) as dealer:
        dealer.heartbeat_ivl = 20
        dealer.heartbeat_timeout = 100
        wire = accept_theirs(dealer, tmp_path / "dealer", zmtp.Codec("ROUTER"))
        for _ in range(15):
            assert wire.turn() == []
        dealer.send(b"still here")
        assert wire.receive() == [[b"still here"]]
        wire.sock.close()
