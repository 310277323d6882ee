"""Guessing credentials is slowed down."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_REFUSALS = 100
WINDOW = 60.0
MAX_ADDRESSES = 10_000


class Refusals:
    """Counts wrong credentials by address: after MAX_REFUSALS different ones in a minute it has to wait for the next.

    A page that was left open repeats the same one, and does not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, set[int]]] = OrderedDict()

    def exhausted(self, address: str) -> bool:
        """Whether credentials from this address are not even looked at."""
        since, wrong = self._seen.get(address, (0.0, set()))
        return len(wrong) >= MAX_REFUSALS and self._clock() - since < WINDOW

    def note(self, address: str, credential: str) -> None:
        """Count one more."""
        now = self._clock()
        since, wrong = self._seen.pop(address, (now, set()))
        if now - since >= WINDOW:
            since, wrong = now, set()
        wrong.add(hash(credential))
        self._seen[address] = (since, wrong)
        if len(self._seen) > MAX_ADDRESSES:
            self._seen.popitem(last=False)
