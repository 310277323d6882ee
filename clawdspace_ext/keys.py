"""Named keys: each opens the spaces API, and nothing else, as the stable user ``key:<name>``.

Only hashes are kept.  A key is 256 random bits, so that a plain SHA-256 of it can neither be guessed nor reversed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from . import paths
from .errors import Broken, Conflict, InvalidRequest, NotFound

#: What every key starts with, so that one can be told from a Jupyter token, and found where it should not be.
PREFIX = "csk_"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


class NamedKey(NamedTuple):
    """A key as it is kept.  ``digest`` is the SHA-256 of the key, in hex; ``created`` an ISO 8601 time."""

    name: str
    digest: str
    created: str

    @property
    def user(self) -> str:
        """Who a request with this key comes from."""
        return f"key:{self.name}"


class KeyStore:
    """The keys of this user's clawdspace, in a file only they can read."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.data_dir() / "keys.json"
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[NamedKey, ...] = ()

    def create(self, name: str) -> str:
        """Make a key and return it; it cannot be shown again.

        Raises InvalidRequest for a name that is no name, Conflict when it is taken.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} cannot name a key",
                field="name",
                remedy="use 1 to 48 letters, digits, '.', '_' or '-', starting with a letter or digit",
            )
        key = PREFIX + secrets.token_urlsafe(32)
        with self._locked():
            keys = self._read()
            if any(known.name == name for known in keys):
                raise Conflict(f"there is already a key named {name}", remedy=f"remove it first, or name it {name}-2")
            self._write([*keys, NamedKey(name, _digest(key), datetime.now(UTC).isoformat(timespec="seconds"))])
        return key

    def list(self) -> Sequence[NamedKey]:
        """Return the keys, by name."""
        return sorted(self._read())

    def remove(self, name: str) -> None:
        """Make a key useless from now on.  Raises NotFound."""
        with self._locked():
            keys = self._read()
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise NotFound(f"there is no key named {name}")
            self._write(left)

    def verify(self, key: str) -> NamedKey | None:
        """Return which key this is, in a time that does not depend on how close it came."""
        digest = _digest(key)
        found = None
        for known in self._read():
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def _read(self) -> tuple[NamedKey, ...]:
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                self._keys = tuple(NamedKey(**entry) for entry in json.loads(self._path.read_bytes())["keys"])
                self._seen = seen
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError, KeyError) as error:
            raise Broken(f"{self._path} is damaged", remedy="remove the file and create the keys again") from error
        return self._keys

    def _write(self, keys: Sequence[NamedKey]) -> None:
        fresh = self._path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({"keys": [key._asdict() for key in keys]}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._path.with_suffix(".lock"), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
