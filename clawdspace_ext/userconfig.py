"""The file ``~/.clawdspace``: lines of KEY="value", as the TypeScript project's shell scripts have it.

It is read, never run: ``$(…)`` in it is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import InvalidRequest

#: Bytes of such a file.
MAX_FILE = 64 * 1024

#: What is known: the key for other servers, and their names or addresses; each by its two names, the better first.
KEY = ("CLAWDSPACE_KEY", "API_KEY")
HOSTS = ("CLAWDSPACE_HOSTS", "KNOWN_HOSTS")

_REMEDY = 'write KEY="value", or a comment after "#"'
_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=
        (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'\#]*))
        (?:\s+\#.*|\s*)""",
    re.VERBOSE | re.ASCII,
)


class Entry(NamedTuple):
    """A value, and the line it is on."""

    value: str
    line: int


def default_path() -> Path:
    """Return where the file of this user is, if there is one."""
    return Path.home() / ".clawdspace"


def read_config(path: Path) -> Mapping[str, Entry]:
    """Return what the file says, by name; of a name that occurs twice the last one counts.  No file says nothing.

    Raises InvalidRequest, with the number of the line, for what is no setting.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read: {error.strerror}", remedy="move it away, or make it a file"
        ) from None
    if len(raw) > MAX_FILE:
        raise InvalidRequest(f"{path} is longer than {MAX_FILE // 1024} KiB", remedy=_REMEDY)
    return parse(raw, str(path))


def parse(raw: bytes, where: str) -> Mapping[str, Entry]:
    """Return what the bytes of such a file say; ``where`` is for messages.  Raises InvalidRequest."""
    entries = {}
    for number, line in enumerate(raw.split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            raise InvalidRequest(f"{where}, line {number}: it is not UTF-8", remedy=_REMEDY) from None
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None or "\0" in text:
            raise InvalidRequest(f"{where}, line {number}: this is no setting", remedy=_REMEDY)
        entries[found["name"]] = Entry(_value(found), number)
    return entries


def _value(found: re.Match[str]) -> str:
    if found["double"] is not None:
        return re.sub(r"\\([\\\"$`])", r"\1", found["double"])
    return str(found["single"] if found["single"] is not None else found["bare"])
