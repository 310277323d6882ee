"""Everything `make test` runs, in order, with one count at the end.

A skipped test counts as skipped, and is named; what fails does not keep the rest from running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

CHECKS = {
    "lint": [str(BIN / "ruff"), "check", "."],
    "format": [str(BIN / "ruff"), "format", "--check", "."],
    "types": [str(BIN / "mypy")],
    "layers": [str(BIN / "lint-imports")],
}
# Each a process of its own: a leak or a plugin of one cannot reach the next.
SUITES = ["unit", "contract", "server", "cli", "kernels", "e2e"]


@dataclass
class Count:
    """How many tests ended which way."""

    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)

    def add(self, report: Path, suite: str) -> None:
        """Take the numbers of one JUnit report; a suite that left none has failed."""
        if not report.exists():
            self.failed += 1
            return
        for case in ET.parse(report).iter("testcase"):
            name = f"{suite}: {case.get('classname')}.{case.get('name')}"
            skipped = case.find("skipped")
            if skipped is not None:
                self.skipped.append(f"{name}: {skipped.get('message')}")
            elif case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
            else:
                self.passed += 1


def announce(what: str) -> None:
    """Head a part of the output."""
    print(f"\n=== {what} {'=' * max(0, 100 - len(what))}", flush=True)


def main() -> int:
    """Run it all; return 0 only when nothing failed."""
    count = Count()
    began = time.monotonic()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for name, command in CHECKS.items():
        announce(name)
        if subprocess.run(command, cwd=ROOT, check=False).returncode == 0:
            count.passed += 1
        else:
            count.failed += 1
    with tempfile.TemporaryDirectory() as folder:
        for suite in SUITES:
            announce(suite)
            report = Path(folder) / f"{suite}.xml"
            command = [sys.executable, "-m", "pytest", f"tests/{suite}", f"--junitxml={report}", "-q"]
            code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
            before = count.failed
            count.add(report, suite)
            if code not in (0, 1) and count.failed == before:
                count.failed += 1
    announce(f"{time.monotonic() - began:.0f} s")
    for line in count.skipped:
        print(f"SKIPPED {line}")
    print(f"{count.passed} passed, {count.failed} failed, {len(count.skipped)} skipped")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
