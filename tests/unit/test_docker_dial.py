"""Docker's multiplexed stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext.engines.docker.dial import MAX_STDERR, Deframer

STDOUT, STDERR = 1, 2
FRAMES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300)), max_size=20)


def framed(kind: int, payload: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1))
def test_stdout_comes_out_whole_however_the_stream_is_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(framed(kind, payload) for kind, payload in frames)
    deframer, out, position, turn = Deframer(), b"", 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        out += deframer.feed(stream[position : position + size])
        position, turn = position + size, turn + 1

    assert out == b"".join(payload for kind, payload in frames if kind == STDOUT)
    assert deframer.stderr == b"".join(payload for kind, payload in frames if kind == STDERR)[:MAX_STDERR]


def test_a_flood_of_complaints_is_bounded() -> None:
    deframer = Deframer()
    for _ in range(100):
        deframer.feed(framed(STDERR, b"x" * 1000))

    assert len(deframer.stderr) == MAX_STDERR


def test_what_is_no_multiplexed_stream_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="no stream"):
        Deframer().feed(b"HTTP/1.1 500 Internal Server Error")
