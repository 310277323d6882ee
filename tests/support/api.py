"""What asking the API returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What the server said; ``body`` is the JSON of ``raw``."""

    status: int
    body: Any
    headers: Any
    raw: bytes


Api = Callable[..., Awaitable[Answer]]
