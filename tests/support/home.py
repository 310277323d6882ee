"""An installation of its own: data, sockets, daemon."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from clawdspace_ext import daemon_process
from clawdspace_ext.client import SpacesClient


class Home:
    """One installation: its daemon, and a client."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        self.engine = engine

    def client(self) -> SpacesClient:
        """Connect, starting a daemon if there is none."""
        client = SpacesClient(daemon_process.ensure_daemon())
        deadline = time.monotonic() + 10
        while self.engine not in client.request("GET", "/api/daemon")["engines"]:
            assert time.monotonic() < deadline, client.request("GET", "/api/daemon")
            time.sleep(0.1)
        return client

    def kill_daemon(self) -> None:
        """End the daemon like a crash would, and wait until it is gone."""
        daemon = daemon_process.running()
        assert daemon is not None
        os.kill(daemon.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while daemon_process.running() is not None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
