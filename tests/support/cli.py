"""The command line as its users run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cli:
    """Runs ``clawdspace`` in an environment."""

    env: Mapping[str, str] = field(default_factory=dict)

    def words(self, *arguments: str) -> list[str]:
        """Return what to run."""
        return [sys.executable, "-m", "clawdspace_ext.cli", *arguments]

    def __call__(
        self, *arguments: str, stdin: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end."""
        return subprocess.run(
            self.words(*arguments), input=stdin, capture_output=True, timeout=60, env=self.env, cwd=cwd
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run it in the background, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.words(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=self.env)
