"""The embedded engine: spaces by bubblewrap, with no daemon and no image."""

from __future__ import annotations

from .engine import BubblewrapEngine

__all__ = ["BubblewrapEngine"]
