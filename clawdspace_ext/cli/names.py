"""Names of spaces, for the completion of a shell."""

from __future__ import annotations

import click

#: Seconds that somebody who pressed a key waits at most.
PATIENCE = 1.0


def space_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names that begin like this; none when no daemon runs, for pressing a key must not start one."""
    from ..client import SpacesClient
    from ..daemon_process import running
    from ..errors import SpaceError

    daemon = running()
    if daemon is None:
        return []
    client = SpacesClient(daemon.socket)
    try:
        spaces = client.request("GET", "/api/spaces", timeout=PATIENCE)["spaces"]
    except SpaceError:
        return []
    finally:
        client.close()
    return [space["name"] for space in spaces if space["name"].startswith(incomplete)]
