"""Signals that we pass on instead of obeying them."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping

from ..errors import SpaceError


@contextlib.contextmanager
def forwarded(actions: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    """While entered, each of these signals leads to its action.

    A handler may interrupt anything, another handler included, so it only leaves word; a thread does the rest.
    """
    wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    threading.Thread(target=_act, args=(wanted,), name="signals", daemon=True).start()
    before = {number: signal.signal(number, lambda got, _frame: wanted.put(actions[got])) for number in actions}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _act(wanted: queue.SimpleQueue[Callable[[], None]]) -> None:
    while True:
        action = wanted.get()
        try:
            action()
        except SpaceError:
            return  # the command has ended; who reads its output will see
