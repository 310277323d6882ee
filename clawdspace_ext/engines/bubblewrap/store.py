"""The engine's files, from which everything about its spaces can be told after any crash.

    spaces/ID/prepared.json      what the sandbox is made of, its volume among it
    spaces/ID/record.json        whose it is, once it is claimed
    spaces/ID/...                what launches need: see ``launch.py``
    volumes/ID/workspace/        /workspace of the space ID, or of a later one that adopted it
    volumes/ID/record.json       whose files these were last, once they have outlived a space

A volume that no sandbox names is kept if it has a record.  Each step is one rename, and what a crash leaves half made
or half removed is swept by ``unclaimed``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import Broken, Conflict, NotFound
from ...spaces import SpaceRecord, SpaceSpec
from .durable import RUBBISH, delete, rubbish_name, set_aside, sync, write
from .records import Prepared, read_prepared, read_record, write_prepared, write_record

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{12}")


class Store:
    """Files below ``home``.  ``first_uid`` is where user ids of spaces start; None: all are this user's."""

    def __init__(self, home: Path, first_uid: int | None) -> None:
        self._home = home
        self._spaces = home / "spaces"
        self._volumes = home / "volumes"
        self._first_uid = first_uid
        self._prepared: dict[str, Prepared] = {}
        self._records: dict[str, SpaceRecord] = {}
        for folder in (home, self._spaces, self._volumes):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- making ------------------------------------------------------------------------------------------------------

    def create(self, space_id: str, spec: SpaceSpec, adopt: str | None) -> None:
        """Make a sandbox's folder, with a new volume or the kept one of the space ``adopt``.

        Raises Conflict when the id or the kept files are in use, NotFound when there are no such files.
        """
        folder = self.folder(space_id)
        with self._locked():
            if folder.exists():
                raise Conflict(f"there is a sandbox {space_id} already")
            volume = self._create_volume(space_id) if adopt is None else self._adoptable(adopt)
            prepared = Prepared(volume.name, (volume / "workspace").stat().st_uid, spec)
            unfinished = rubbish_name(folder)
            unfinished.mkdir(mode=0o700)
            write(unfinished / "prepared.json", write_prepared(prepared))
            unfinished.rename(folder)

    def _create_volume(self, volume_id: str) -> Path:
        uid = self._free_uid()
        volume = self._volumes / volume_id
        unfinished = rubbish_name(volume)
        unfinished.mkdir(mode=0o700)
        workspace = unfinished / "workspace"
        workspace.mkdir()
        os.chown(workspace, uid, uid)
        workspace.chmod(0o755)
        return unfinished.rename(volume)

    def _adoptable(self, space_id: str) -> Path:
        for volume in self._volumes.iterdir():
            record = self._volume_record(volume) if _is_entry(volume) else None
            if record is not None and record.id == space_id:
                if volume.name in self._volumes_in_use():
                    raise Conflict("the kept files are in use by another space")
                return volume
        raise NotFound(f"there are no kept files of a space {space_id}")

    def _free_uid(self) -> int:
        if self._first_uid is None:
            return os.getuid()
        used = {folder.joinpath("workspace").stat().st_uid for folder in self._volumes.iterdir() if _is_entry(folder)}
        return next(uid for uid in range(self._first_uid, self._first_uid + len(used) + 1) if uid not in used)

    def claim(self, record: SpaceRecord) -> None:
        """Write down whose a sandbox is.

        Raises NotFound, Conflict when another space has the name, or adopted files were somebody else's.
        """
        folder = self.folder(record.id)
        with self._locked():
            volume = self._volumes / self.prepared(record.id).volume
            earlier = self._volume_record(volume)
            if earlier is not None and earlier.owner != record.owner:
                raise Conflict("the kept files belong to somebody else")
            for other in self.records():
                if other.id != record.id and other.name == record.name:
                    raise Conflict(f"there is a space named {record.name} already", field="name")
                if other.id == record.id and other != record:
                    raise Conflict(f"the sandbox {record.id} is the space {other.name} already")
            write(folder / "record.json", write_record(record))
            for parent in (self._spaces, self._volumes, volume):
                sync(parent)

    # -- looking -----------------------------------------------------------------------------------------------------

    def folder(self, space_id: str) -> Path:
        """Return where a sandbox has its files.  Raises NotFound for what is no id of a space."""
        if not _ID.fullmatch(space_id):
            raise NotFound(f"there is no space {space_id!r}")
        return self._spaces / space_id

    def workspace(self, volume_id: str) -> Path:
        """Return the folder that is /workspace."""
        return self._volumes / volume_id / "workspace"

    def prepared(self, space_id: str) -> Prepared:
        """Return what a sandbox is made of.  Raises NotFound, Broken."""
        path = self.folder(space_id) / "prepared.json"
        if not path.exists():
            self._prepared.pop(space_id, None)
            raise NotFound(f"there is no sandbox {space_id}")
        if space_id not in self._prepared:
            self._prepared[space_id] = read_prepared(path.read_bytes())
        return self._prepared[space_id]

    def record(self, space_id: str) -> SpaceRecord | None:
        """Return whose a sandbox is, None while it is nobody's.  Raises Broken."""
        if space_id not in self._records:
            try:
                data = (self.folder(space_id) / "record.json").read_bytes()
            except FileNotFoundError:
                return None
            self._records[space_id] = read_record(data)
        return self._records[space_id]

    def records(self) -> list[SpaceRecord]:
        """Return the records of all claimed spaces; damaged ones are logged, and left alone."""
        found = []
        for folder in self._spaces.iterdir():
            if _is_entry(folder) and (folder / "record.json").exists():
                try:
                    record = self.record(folder.name)
                except Broken as error:
                    log.warning("%s: %s", folder, error)
                    continue
                if record is not None:
                    found.append(record)
        self._records = {record.id: record for record in found}
        return found

    def unclaimed(self) -> list[str]:
        """Return the ids of sandboxes that are nobody's, and sweep away what a crash left of removed ones."""
        with self._locked():
            in_use = self._volumes_in_use()
            for folder in _without_record(self._volumes):
                if folder.name not in in_use:
                    set_aside(folder)
            rubbish = [path for parent in (self._spaces, self._volumes) for path in parent.glob(f"{RUBBISH}*")]
            found = [folder.name for folder in _without_record(self._spaces)]
        for path in rubbish:
            delete(path)
        return found

    def _volumes_in_use(self) -> set[str]:
        return {self.prepared(folder.name).volume for folder in self._spaces.iterdir() if _is_entry(folder)}

    # -- what outlives its space -------------------------------------------------------------------------------------

    def kept(self) -> dict[Path, SpaceRecord]:
        """Return the kept volumes, each with the record of the last space that had it."""
        in_use = self._volumes_in_use()
        found = {}
        for volume in self._volumes.iterdir():
            if _is_entry(volume) and volume.name not in in_use:
                try:
                    record = self._volume_record(volume)
                except Broken as error:
                    log.warning("%s: %s", volume, error)
                    continue
                if record is not None:
                    found[volume] = record
        return found

    def _volume_record(self, volume: Path) -> SpaceRecord | None:
        try:
            return read_record((volume / "record.json").read_bytes())
        except FileNotFoundError:
            return None

    def remove(self, space_id: str, *, remove_files: bool) -> None:
        """Remove a sandbox that does not run.  Nothing there is no error.

        The volume goes as well when it is to be removed, or when nobody ever had it; but what a sandbox adopted that
        nobody claimed stays kept.
        """
        folder = self.folder(space_id)
        with self._locked():
            if not folder.exists():
                return
            prepared, record = self.prepared(space_id), self.record(space_id)
            volume = self._volumes / prepared.volume
            if record is not None and not remove_files:
                write(volume / "record.json", write_record(record))
            gone = [set_aside(folder)]
            self._records.pop(space_id, None)
            if (record is not None and remove_files) or not (volume / "record.json").exists():
                gone.append(set_aside(volume))
        for rubbish in gone:
            delete(rubbish)

    def remove_kept(self, space_id: str) -> None:
        """Remove the kept files of a space.  Raises NotFound."""
        with self._locked():
            volumes = [volume for volume, record in self.kept().items() if record.id == space_id]
            if not volumes:
                raise NotFound(f"there are no kept files of a space {space_id}")
            rubbish = set_aside(volumes[0])
        delete(rubbish)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep every other engine, also of other processes, from changing the folders."""
        with (self._home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_entry(folder: Path) -> bool:
    return _ID.fullmatch(folder.name) is not None


def _without_record(parent: Path) -> list[Path]:
    return [folder for folder in parent.iterdir() if _is_entry(folder) and not (folder / "record.json").exists()]
