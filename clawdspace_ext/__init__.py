"""Self-hosted sandboxes ("spaces") as a Jupyter workbench.

Importing this package costs nothing: the Jupyter hooks load their parts when Jupyter asks for them.
"""

from __future__ import annotations

from .version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Tell Jupyter Server which application extends it."""
    from .app import ClawdspaceApp

    return [{"module": "clawdspace_ext.app", "app": ClawdspaceApp}]
