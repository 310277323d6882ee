"""The way out of spaces: which addresses they may reach, and connections to those.

Nothing here knows of spaces, engines or the daemon: connections come as flows, so that it can move to a process of its
own.
"""

from __future__ import annotations

from .gateway import Gateway, Outlet

__all__ = ["Gateway", "Outlet"]
