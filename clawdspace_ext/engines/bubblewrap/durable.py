"""Changes of files and folders that are done or not, whatever crashes, and can be taken to have lasted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ...errors import Unavailable

RUBBISH = ".rubbish-"
"""How the names of folders begin that are not there yet, or not any more."""


def rubbish_name(folder: Path) -> Path:
    """Return a name beside ``folder`` under which it can be made or removed at leisure."""
    return folder.with_name(f"{RUBBISH}{folder.name}-{os.urandom(4).hex()}")


def set_aside(folder: Path) -> Path:
    """Take a folder out of sight in one step, durably, and return where its removal can take its time."""
    rubbish = rubbish_name(folder)
    folder.rename(rubbish)
    sync(folder.parent)
    return rubbish


def delete(folder: Path) -> None:
    """Delete a tree that a space may have filled: as deep as it likes, and with folders nobody may enter."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        done = subprocess.run([*command, "--", folder], stderr=subprocess.PIPE, check=False)
        if not folder.exists():
            return
    raise Unavailable(f"cannot delete {folder}: {done.stderr.decode(errors='replace').strip()[:300]}")


def write(path: Path, data: bytes) -> None:
    """Write a file that is whole after any crash, or not there."""
    unfinished = path.with_name(f".{path.name}.new")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make sure that what was made, renamed or removed in a folder stays so."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
