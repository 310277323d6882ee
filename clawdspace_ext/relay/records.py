"""What the daemon must remember of a kernel to go on with it after a restart."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .owners import Owner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """One kernel.

    ``id`` is the client's name for it; ``space`` is destroyed with it when it is ``ephemeral``.  ``engine`` runs that
    space (empty until there is one), with ``memory`` bytes.  ``key`` signs what passes between the daemon and Jupyter
    clients, ``inside_key`` what passes between the kernel and the agent.
    """

    id: str
    space: str
    ephemeral: bool
    owner: Owner
    engine: str = ""
    memory: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    inside_key: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def short(self) -> str:
        """12 hex digits that stand for the id in paths and towards the agent."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:12]


class KernelRecords:
    """Records as files of ``folder`` that only their user can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, record: KernelRecord) -> None:
        """Write a record, whole or not at all."""
        path = self._path(record)
        new = path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w") as file:
            json.dump(asdict(record), file)
        new.replace(path)

    def remove(self, record: KernelRecord) -> None:
        """Forget a record."""
        self._path(record).unlink(missing_ok=True)

    def all(self) -> Iterator[KernelRecord]:
        """Read what is there; a file that cannot be understood is left alone."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                fields = json.loads(path.read_bytes())
                yield KernelRecord(**{**fields, "owner": Owner(**fields["owner"])})
            except (ValueError, TypeError, KeyError) as error:
                log.warning("%s is no kernel's record: %s", path, error)

    def _path(self, record: KernelRecord) -> Path:
        return self._folder / f"{record.short}.json"
