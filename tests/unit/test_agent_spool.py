"""The agent's spool, whatever happens to the flow: each message arrives once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext.agent.frames import Framer
from clawdspace_ext.agent.spool import HEAD, Spool


class Pipe:
    """A flow that has room for ``size`` bytes until they are read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._data = b""

    @property
    def room(self) -> int:
        return self._size - len(self._data)

    def write(self, data: bytes) -> None:
        assert len(data) <= self.room
        self._data += data

    def read(self) -> bytes:
        data, self._data = self._data, b""
        return data


steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 300)),
        st.tuples(st.just("read"), st.booleans()),
        st.tuples(st.just("lose"), st.integers(1, 400)),
    ),
    max_size=60,
)


@given(steps)
def test_each_message_arrives_once_whatever_happens_to_the_flow(history: list[tuple[str, int]]) -> None:
    spool = Spool()
    said: list[bytes] = []
    heard: list[bytes] = []
    received = 0
    pipe, framer = Pipe(100), Framer()
    spool.follow(pipe)  # type: ignore[arg-type]  # all of a flow that a spool uses

    def read(acknowledge: bool) -> None:
        nonlocal received
        for head, part in framer.receive(pipe.read()):
            number, channel = HEAD.unpack(head)
            assert channel == 2
            if number > received:
                received = number
                heard.append(part)
        if acknowledge:
            spool.acknowledge(received)
        spool.pump()

    for step, value in history:
        if step == "say":
            said.append(b"%d" % len(said) + b"." * value)
            spool.add(2, [said[-1]])
        elif step == "read":
            read(bool(value))
        else:
            spool.follow(None)
            pipe, framer = Pipe(value), Framer()
            spool.follow(pipe)  # type: ignore[arg-type]  # see above
            spool.discard(received)
            spool.pump()
    for _ in range(2 + spool.size):
        read(True)
    assert heard == said
    assert spool.size == 0
