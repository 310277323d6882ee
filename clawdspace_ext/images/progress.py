"""How a build tells what it does."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Whoever watches a build."""

    def step(self, title: str, number: int = 0, total: int = 0) -> None:
        """A step begins: one of ``total`` if that is known."""

    def line(self, text: str) -> None:
        """The step said something."""
