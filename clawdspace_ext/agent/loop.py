"""A small event loop over epoll: readers, writers and timers, one thread, no imports that cost memory."""

from __future__ import annotations

import heapq
import select
import time

MYPY = False
if MYPY:
    from typing import Callable, Dict, List, Optional

_READ = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_WRITE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A callback to come; ``cancel`` takes it back."""

    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback: Optional[Callable[[], object]] = callback

    def cancel(self) -> None:
        """Never call it."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at


class Loop:
    """Calls back when descriptors are ready or time has come.  Times are ``time.monotonic`` seconds."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._readers: Dict[int, Callable[[], object]] = {}
        self._writers: Dict[int, Callable[[], object]] = {}
        self._masks: Dict[int, int] = {}
        self._timers: List[Timer] = []
        self._soon: List[Callable[[], object]] = []
        self.running = True

    def read(self, fd: int, callback: Optional[Callable[[], object]]) -> None:
        """Call back whenever ``fd`` is readable or at its end; None stops that."""
        self._set(self._readers, fd, callback)

    def write(self, fd: int, callback: Optional[Callable[[], object]]) -> None:
        """Call back whenever ``fd`` is writable; None stops that."""
        self._set(self._writers, fd, callback)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor; call it before closing."""
        self.read(fd, None)
        self.write(fd, None)

    def later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back once, after ``seconds``."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def soon(self, callback: Callable[[], object]) -> None:
        """Call back once, at the end of this turn."""
        self._soon.append(callback)

    def run(self) -> None:
        """Run until ``running`` is False."""
        while self.running:
            self.turn()

    def turn(self) -> None:
        """Wait for something to happen and handle it."""
        for fd, mask in self._poll.poll(self._timeout()):
            if mask & _READ and fd in self._readers:
                self._readers[fd]()
            if mask & _WRITE and fd in self._writers:
                self._writers[fd]()
        now = time.monotonic()
        while self._timers and self._timers[0].at <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                callback()
        while self._soon:
            callbacks, self._soon = self._soon, []
            for run in callbacks:
                run()

    def _timeout(self) -> float:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1
        return max(0.0, self._timers[0].at - time.monotonic())

    def _set(self, table: Dict[int, Callable[[], object]], fd: int, callback: Optional[Callable[[], object]]) -> None:
        if callback is None:
            table.pop(fd, None)
        else:
            table[fd] = callback
        mask = (select.EPOLLIN if fd in self._readers else 0) | (select.EPOLLOUT if fd in self._writers else 0)
        before = self._masks.get(fd)
        if mask == (before or 0):
            return
        if before is None:
            self._poll.register(fd, mask)
        elif mask:
            self._poll.modify(fd, mask)
        else:
            self._poll.unregister(fd)
        if mask:
            self._masks[fd] = mask
        else:
            self._masks.pop(fd, None)
