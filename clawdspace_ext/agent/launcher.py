"""Starts ipykernel so that it waits for a slow reader instead of dropping output.

Runs in the space's own Python, as ``launcher.py -f CONNECTION_FILE``; the agent itself never imports it.
"""

from __future__ import annotations

import os
import site
import sys

# The agent's modules lie beside this file; user code must not find them by their everyday names.
sys.path[:] = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]

import logging  # noqa: E402  # only now that the path is clean

try:
    import zmq
    from ipykernel import iostream
    from ipykernel.kernelapp import IPKernelApp
except ModuleNotFoundError as error:
    sys.exit(
        "no ipykernel in this image: its python3, %s, has no module %s; 'pip install ipykernel' in the space, "
        "or make the space of another image" % (sys.executable, error.name)
    )

# What pip installs for this user while the kernel runs is found only in a folder that Python knew when it began.
if site.ENABLE_USER_SITE and site.getusersitepackages() not in sys.path:
    try:
        os.makedirs(site.getusersitepackages(), exist_ok=True)
        before = [number for number, folder in enumerate(sys.path) if folder.endswith("-packages")]
        sys.path.insert(before[0] if before else len(sys.path), site.getusersitepackages())
    except OSError:
        pass  # then nothing can be installed there

MYPY = False
if MYPY:
    from typing import Any

MAX_UNFLUSHED = 1024 * 1024


class PatientOutStream(iostream.OutStream):
    """Standard output or error that makes its writer wait while too much of it has not been sent."""

    flush_timeout: Any = None
    _unflushed = 0

    def write(self, string: str) -> Any:
        """Write, and wait for the output to be sent after each MAX_UNFLUSHED characters."""
        written = super().write(string)
        self._unflushed += len(string)
        if self._unflushed > MAX_UNFLUSHED:
            self._unflushed = 0
            self.flush()  # type: ignore[no-untyped-call]  # ipykernel has no types
        return written


class SpaceKernelApp(IPKernelApp):
    """An ipykernel whose output socket blocks when its reader is behind."""

    def _bind_socket(self, s: zmq.Socket[Any], port: int) -> Any:
        if s.type in (zmq.XPUB, zmq.PUB):
            s.setsockopt(zmq.XPUB_NODROP, 1)
        return super()._bind_socket(s, port)  # type: ignore[no-untyped-call]  # see above

    def init_io(self) -> None:
        """Let the streams that ipykernel makes be patient ones."""
        iostream.OutStream = PatientOutStream  # type: ignore[misc]  # ipykernel looks the class up under this name
        super().init_io()  # type: ignore[no-untyped-call]  # see above

    def log_connection_info(self) -> None:
        """Leave out the note on how to connect, which would reach notebooks as output of nobody."""
        usual, self.log_level = self.log_level, logging.CRITICAL
        super().log_connection_info()  # type: ignore[no-untyped-call]  # see above
        self.log_level = usual


if __name__ == "__main__":
    SpaceKernelApp.launch_instance()
