"""Bytes that the members of a control group have read from and written to disks."""

from __future__ import annotations

from pathlib import Path


def blocks_v1(folder: Path) -> tuple[int, int]:
    """Return (read, written) of a folder of the blkio controller; zeros where it does not count."""
    totals = {"Read": 0, "Write": 0}
    for words in _lines(folder / "blkio.throttle.io_service_bytes"):
        if len(words) == 3 and words[1] in totals:
            totals[words[1]] += int(words[2])
    return totals["Read"], totals["Write"]


def blocks_v2(folder: Path) -> tuple[int, int]:
    """Return (read, written) of a folder of version 2; zeros where it has no io controller."""
    totals = {"rbytes": 0, "wbytes": 0}
    for words in _lines(folder / "io.stat"):
        for word in words[1:]:
            name, _, value = word.partition("=")
            if name in totals:
                totals[name] += int(value)
    return totals["rbytes"], totals["wbytes"]


def _lines(file: Path) -> list[list[str]]:
    try:
        return [line.split() for line in file.read_text().splitlines()]
    except FileNotFoundError:
        return []
