"""What is known of a launch: a file of JSON lines that the engine begins and bubblewrap goes on with.

bubblewrap's monitor writes the main process's pid at the start and its exit code at the end, also while no engine
looks, so a launch is found again after any crash of ours.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Status:
    """One launch.

    ``boot`` is the boot id of the machine it was made on; ``pid``, ``namespace`` (an inode) and ``start_time`` (clock
    ticks since boot) identify the main process, and are None until they are known.
    """

    boot: str
    started: datetime
    pid: int | None = None
    namespace: int | None = None
    start_time: int | None = None
    exit_code: int | None = None
    oom: bool = False


def begin(path: Path, boot: str, started: datetime) -> None:
    """Begin the file of a new launch in place of the last one's."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps({"boot": boot, "started": started.isoformat()}) + "\n")
    unfinished.rename(path)


def add(path: Path, **facts: int | bool) -> None:
    """Add facts to the present launch, in one write, since the monitor may be writing too."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, json.dumps(facts).encode() + b"\n")
    finally:
        os.close(fd)


def read(path: Path) -> Status | None:
    """Return the last launch, or None when there was none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    facts = _merge(text)
    if "boot" not in facts:
        return None
    return Status(
        boot=facts["boot"],
        started=datetime.fromisoformat(facts["started"]),
        pid=facts.get("child-pid"),
        namespace=facts.get("pid-namespace"),
        start_time=facts.get("start-time"),
        exit_code=facts.get("exit-code"),
        oom=facts.get("oom", False),
    )


def _merge(text: str) -> dict[str, Any]:
    """Join the JSON objects of a file; the last may still be half written."""
    facts: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    rest = text.lstrip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            break
        facts |= value
        rest = rest[end:].lstrip()
    return facts
