"""What an agent that lies can make of a kernel in the daemon: nothing but noise of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawdspace_ext.agent.spool import HEAD
from clawdspace_ext.relay.deaths import UNKNOWN, of_process
from clawdspace_ext.relay.kernel import Kernel
from clawdspace_ext.relay.messages import Signer, compose
from clawdspace_ext.relay.owners import Owner
from clawdspace_ext.relay.records import KernelRecord
from clawdspace_ext.service import Spaces
from clawdspace_ext.spaces import GIB

heads = st.one_of(st.binary(max_size=12), st.builds(HEAD.pack, st.integers(0, 2**64 - 1), st.integers(0, 255)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
events = json_values | st.fixed_dictionaries(
    {"exited": st.integers() | json_values, "status": st.integers() | json_values, "log": json_values}
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel that was never started."""
    record = KernelRecord("k", "dev", ephemeral=False, owner=Owner(1, 2))
    kernel = Kernel(Spaces([]), record, tmp_path_factory.mktemp("k"))
    yield kernel
    kernel._reception.close()


@given(heads, st.lists(st.binary(max_size=40), max_size=10))
def test_messages_that_are_none_are_counted_and_ignored(kernel: Kernel, head: bytes, parts: list[bytes]) -> None:
    kernel._reception._received.value = 0
    ignored = kernel._reception.ignored
    kernel._reception._message([head, *parts])
    assert kernel._reception.ignored in (ignored, ignored + 1)


@given(st.integers(0, 5), events)
def test_events_that_are_none_end_nothing(kernel: Kernel, pid: int, event: Any) -> None:
    kernel._reception._received.value = 0
    kernel._lives(pid)
    kernel._reception._message([HEAD.pack(1, 0), json.dumps(event).encode()])
    assert (kernel.ending is not None) == (isinstance(event, dict) and event.get("exited") == pid)


def test_a_message_that_comes_twice_is_passed_on_once(kernel: Kernel, tmp_path: Path) -> None:
    kernel._reception._received.value = 0
    delivered: list[int] = []
    kernel._outside.deliver = lambda channel, _: delivered.append(channel)  # type: ignore[method-assign]
    parts = compose("status", {}, identities=[b"topic"]).signed(Signer(b""))
    for number in (1, 2, 1, 2, 3):
        kernel._reception._message([HEAD.pack(number, 2), *parts])
    assert delivered == [2, 2, 2]


@settings(max_examples=200)
@given(events, st.booleans())
def test_any_report_of_a_death_becomes_words(event: Any, oom: bool) -> None:
    ending = of_process({**event, "oom": oom} if isinstance(event, dict) else {}, GIB)
    assert 0 <= ending.exit_code < 256
    assert all(c.isprintable() or c == "\n" for c in ending.reason)


@pytest.mark.parametrize(
    ("event", "code", "reason"),
    [
        ({"status": 0}, 0, "exit code 0"),
        (
            {"status": 3 << 8, "log": "No module named\n\x1b[2Jipykernel\n"},
            3,
            "exit code 3: No module named\n [2Jipykernel",
        ),
        ({"status": 9}, 137, "killed by signal 9 (SIGKILL)"),
        ({"status": 9, "oom": True}, 137, "out of memory (limit 1024 MiB)"),
        ({"status": signal.SIGSEGV | 0x80, "oom": True}, 139, "killed by signal 11 (SIGSEGV)"),
        ({"status": 0x7F}, 1, UNKNOWN.reason),
    ],
)
def test_a_death_says_why(event: dict[str, Any], code: int, reason: str) -> None:
    ending = of_process(event, GIB)
    assert (ending.exit_code, ending.reason) == (code, reason)
