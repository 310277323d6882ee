"""Requests that carry an Idempotency-Key are done once; whoever repeats one gets the first answer."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ..errors import Conflict, InvalidRequest, Unavailable
from ..wire import KEY_HEADER
from .route import JSON

MAX_ANSWERS = 1000
MAX_BYTES = 64 * 1024 * 1024
LIFETIME = 24 * 3600.0


class Answer(NamedTuple):
    """An answer as it goes out."""

    status: int
    body: bytes
    content_type: str = JSON


class _Entry(NamedTuple):
    fingerprint: bytes
    task: asyncio.Task[Answer]
    since: float

    @property
    def size(self) -> int:
        return len(self.task.result().body) if self.task.done() and not self.task.cancelled() else 0


class FirstAnswers:
    """Answers by principal and key: at most MAX_ANSWERS, MAX_BYTES, for LIFETIME seconds.

    An answer that says "try again" (503) is forgotten at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0
        self._clock = clock

    async def once(
        self, principal: str, key: str, request: tuple[bytes, ...], run: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Return what ``run`` returned for the first request with this key, waiting while that is under way.

        ``request`` is all that makes requests the same.  Raises Conflict when the key came with another request.
        """
        if not (key.isascii() and key.isprintable() and 0 < len(key) <= 255):
            raise InvalidRequest(f"the {KEY_HEADER} must be 1 to 255 ASCII characters", field=KEY_HEADER)
        fingerprint = _fingerprint(request)
        self._prune()
        entry = self._entries.get((principal, key))
        if entry is None:
            entry = self._begin((principal, key), fingerprint, run)
        elif entry.fingerprint != fingerprint:
            raise Conflict(
                f"this {KEY_HEADER} came before with another request",
                field=KEY_HEADER,
                remedy="use a new key for each new request",
            )
        # One client's going away must not end what another waits for.
        return await asyncio.shield(entry.task)

    def _begin(self, name: tuple[str, str], fingerprint: bytes, run: Callable[[], Awaitable[Answer]]) -> _Entry:
        entry = _Entry(fingerprint, asyncio.ensure_future(_result(run)), self._clock())
        self._entries[name] = entry
        entry.task.add_done_callback(lambda _task: self._settle(name, entry))
        return entry

    def _settle(self, name: tuple[str, str], entry: _Entry) -> None:
        task = entry.task
        self._bytes += entry.size if not task.cancelled() and task.exception() is None else 0
        if task.cancelled() or task.exception() is not None or task.result().status == 503:
            self._forget(name)

    def _prune(self) -> None:
        oldest = self._clock() - LIFETIME
        settled = [name for name, entry in self._entries.items() if entry.task.done()]
        for name in settled:
            full = len(self._entries) >= MAX_ANSWERS or self._bytes > MAX_BYTES
            if not full and self._entries[name].since > oldest:
                break
            self._forget(name)
        if len(self._entries) >= MAX_ANSWERS:
            raise Unavailable(f"too many requests with an {KEY_HEADER} are under way")

    def _forget(self, name: tuple[str, str]) -> None:
        self._bytes -= self._entries.pop(name).size


async def _result(run: Callable[[], Awaitable[Answer]]) -> Answer:
    return await run()


def _fingerprint(parts: tuple[bytes, ...]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
