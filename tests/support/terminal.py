"""A person at a terminal: a program under a pseudo-terminal, what it shows, and keys."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class Terminal:
    """Runs a program in a terminal of ``cols`` by ``rows``."""

    def __init__(self, argv: list[str], env: Mapping[str, str], cols: int = 91, rows: int = 37) -> None:
        self._master, self.slave = pty.openpty()
        self.resize(cols, rows)
        self.modes = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self.slave)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, cols: int, rows: int) -> None:
        """Drag the window's corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def expect(self, text: str, seconds: float = 15) -> None:
        """Wait until text is shown, and forget what came before it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not shown, but {self.shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += os.read(self._master, 65536)
        self.shown = self.shown.partition(text.encode())[2]

    def wait(self, seconds: float = 15) -> int:
        """Wait for the end of the program and return its exit code."""
        deadline = time.monotonic() + seconds
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"it does not end: {self.shown!r}"
            if select.select([self._master], [], [], 0.05)[0]:
                self.shown += os.read(self._master, 65536)
        return code
