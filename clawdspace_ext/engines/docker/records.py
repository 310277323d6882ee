"""What the engine itself knows about spaces: labels on containers and volumes, and how they are read back.

A space has a container, a workspace volume, and once it is claimed a *record*: an empty volume whose labels hold the
SpaceRecord, because a container's labels cannot change after it was made for nobody in particular.  A record that
outlives its container is a space's kept files.  ``files`` names the workspace: the id of the space it was made for,
which an adopting space keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from ...errors import InvalidRequest
from ...spaces import SCHEMA, KeptVolume, Network, Space, SpaceRecord, SpaceSpec, SpaceState

MANAGED = "clawdspace.managed"
INSTALL = "clawdspace.install"
ROLE = "clawdspace.role"
ID = "clawdspace.id"
FILES = "clawdspace.files"
IMAGE = "clawdspace.image"
SPEC = "clawdspace.spec"
NAME = "clawdspace.name"
OWNER = "clawdspace.owner"
CREATED = "clawdspace.created"
EPHEMERAL = "clawdspace.ephemeral"
SCHEMA_LABEL = "clawdspace.schema"

_STATES = {"running": SpaceState.RUNNING, "restarting": SpaceState.RUNNING, "paused": SpaceState.PAUSED}


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels and names of one installation; nothing without its labels is ever touched."""

    install_id: str

    def common(self, role: str) -> dict[str, str]:
        """Return what every object of ours carries."""
        return {MANAGED: "1", INSTALL: self.install_id, ROLE: role, SCHEMA_LABEL: str(SCHEMA)}

    @property
    def all(self) -> list[str]:
        """What selects our objects, and only them."""
        return [f"{MANAGED}=1", f"{INSTALL}={self.install_id}"]

    def of_role(self, role: str) -> list[str]:
        """What selects our objects of one role."""
        return [*self.all, f"{ROLE}={role}"]

    def one(self, space_id: str) -> list[str]:
        """What selects the objects of one space."""
        return [*self.all, f"{ID}={space_id}"]

    def prepared_name(self, space_id: str) -> str:
        """The container name of a space nobody has claimed; no space name holds a dot."""
        return f"clawdspace-{self.install_id[:8]}.{space_id}"

    def claimed_name(self, name: str) -> str:
        """The container name of a claimed space: unique in an engine, so it is the lock on the space's name."""
        return f"clawdspace-{self.install_id[:8]}-{name}"

    def of_space(self, space_id: str, files_id: str, image: str, spec: SpaceSpec) -> dict[str, str]:
        """Return the labels of a container."""
        return self.common("space") | {ID: space_id, FILES: files_id, IMAGE: image, SPEC: spec_text(spec)}

    def of_workspace(self, space_id: str) -> dict[str, str]:
        """Return the labels of a workspace volume."""
        return self.common("workspace") | {ID: space_id, FILES: space_id}

    def of_record(self, record: SpaceRecord, files_id: str) -> dict[str, str]:
        """Return the labels that are a record."""
        return self.common("record") | {
            ID: record.id,
            FILES: files_id,
            NAME: record.name,
            OWNER: record.owner,
            SPEC: spec_text(record.spec),
            CREATED: record.created.isoformat(),
            EPHEMERAL: str(int(record.ephemeral)),
            SCHEMA_LABEL: str(record.schema),
        }


def workspace_volume(files_id: str) -> str:
    """The name of a workspace volume."""
    return f"clawdspace-{files_id}"


def record_volume(space_id: str) -> str:
    """The name of a record volume."""
    return f"clawdspace-{space_id}-record"


@dataclass(frozen=True, slots=True)
class Container:
    """One of our containers as the engine lists it.  ``name`` is None until it is claimed."""

    docker_id: str
    space_id: str
    files_id: str
    name: str | None
    image: str
    spec: SpaceSpec
    state: SpaceState
    created: datetime

    @property
    def fallback(self) -> SpaceRecord:
        """What can be said of a claimed space whose record somebody removed: everything but its owner."""
        return SpaceRecord(self.space_id, self.name or "", "", self.spec, self.created)


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything of one installation as of one moment, by space id; workspaces with the time they were made."""

    containers: Mapping[str, Container] = field(default_factory=dict)
    records: Mapping[str, tuple[SpaceRecord, str]] = field(default_factory=dict)
    workspaces: Mapping[str, datetime] = field(default_factory=dict)

    def record_of(self, container: Container) -> SpaceRecord:
        """Return who a claimed space is, as far as it is known."""
        known = self.records.get(container.space_id)
        return known[0] if known else container.fallback

    def spaces(self, engine: str, not_enforced: tuple[str, ...]) -> list[Space]:
        """Return the claimed spaces."""
        return [
            Space(self.record_of(container), container.state, engine, container.image, not_enforced=not_enforced)
            for container in self.containers.values()
            if container.name is not None
        ]

    def kept(self) -> dict[str, KeptVolume]:
        """Return files without a space, by the id of the last space that had them.

        Files whose record somebody removed have no name and no owner; nothing but a person's order removes files.
        """
        used = {container.files_id for container in self.containers.values()}
        free = {files_id: made for files_id, made in self.workspaces.items() if files_id not in used}
        latest = {files_id: KeptVolume(files_id, "", "", made) for files_id, made in free.items()}
        for record, files_id in sorted(self.records.values(), key=lambda known: known[0].created):
            if files_id in free:
                latest[files_id] = KeptVolume(record.id, record.name, record.owner, record.created)
        return {kept.id: kept for kept in latest.values()}

    def files_of(self, kept_id: str) -> str:
        """Return the id that names the workspace of kept files."""
        known = self.records.get(kept_id)
        return known[1] if known else kept_id

    def orphans(self) -> list[str]:
        """Return the ids of what was prepared and never claimed."""
        return [container.space_id for container in self.containers.values() if container.name is None]

    def to_remove(self, space_id: str, *, remove_files: bool) -> list[str]:
        """Return the volumes that go when a space is destroyed.

        What nobody claimed leaves nothing behind, except files that it had adopted; those stay kept.
        """
        container = self.containers.get(space_id)
        if container is not None and container.name is None:
            own = [workspace_volume(space_id)] if container.files_id == space_id else []
            return [*own, record_volume(space_id)]
        if not remove_files:
            return []
        if container is not None:
            return self.volumes_of(container.files_id)
        return self.volumes_of(self.files_of(space_id)) if space_id in self.kept() else [record_volume(space_id)]

    def volumes_of(self, files_id: str) -> list[str]:
        """Return a workspace and every record of it, the files first: a record without files is nothing."""
        records = [record_volume(record.id) for record, files in self.records.values() if files == files_id]
        return [workspace_volume(files_id), *records]


def survey(labels: Labels, containers: Iterable[Mapping[str, Any]], volumes: Iterable[Mapping[str, Any]]) -> Survey:
    """Read what the engine's two lists say."""
    found = (read_container(labels, item) for item in containers)
    records: dict[str, tuple[SpaceRecord, str]] = {}
    workspaces: dict[str, datetime] = {}
    for volume in volumes:
        marks: Mapping[str, str] = volume.get("Labels") or {}
        if marks.get(ROLE) == "workspace":
            workspaces[marks[ID]] = _time(volume.get("CreatedAt"))
        elif marks.get(ROLE) == "record":
            record = _read_record(marks)
            records[record.id] = (record, marks.get(FILES, record.id))
    return Survey({c.space_id: c for c in found if c is not None}, records, workspaces)


def read_container(labels: Labels, item: Mapping[str, Any]) -> Container | None:
    """Read one entry of the list of containers; None when it is no space."""
    marks: Mapping[str, str] = item["Labels"]
    if marks.get(ROLE) != "space":
        return None
    space_id = marks[ID]
    name = str(item["Names"][0]).removeprefix("/") if item.get("Names") else ""
    return Container(
        docker_id=item["Id"],
        space_id=space_id,
        files_id=marks.get(FILES, space_id),
        name=None if name == labels.prepared_name(space_id) else name.removeprefix(labels.claimed_name("")),
        image=marks.get(IMAGE, str(item["Image"])),
        spec=_read_spec(marks.get(SPEC, "{}")),
        state=_STATES.get(item["State"], SpaceState.STOPPED),
        created=datetime.fromtimestamp(item["Created"], UTC),
    )


def spec_text(spec: SpaceSpec) -> str:
    """Return a spec as compact JSON."""
    return json.dumps(asdict(spec), separators=(",", ":"))


def _read_spec(text: str) -> SpaceSpec:
    """Return the spec in a label, or the usual one when the label makes no sense; newer fields are left out.

    A network that cannot be read is none.
    """
    try:
        found = json.loads(text)
        known = {field.name: found[field.name] for field in fields(SpaceSpec) if field.name in found}
        known["network"] = Network(known.get("network", Network.NONE))
        return SpaceSpec(**known)
    except (ValueError, TypeError, InvalidRequest):
        return SpaceSpec(network=Network.NONE)


def _read_record(marks: Mapping[str, str]) -> SpaceRecord:
    """Read a record; what cannot be read is left out rather than a space lost."""
    return SpaceRecord(
        id=marks[ID],
        name=marks.get(NAME, ""),
        owner=marks.get(OWNER, ""),
        spec=_read_spec(marks.get(SPEC, "{}")),
        created=_time(marks.get(CREATED)),
        ephemeral=marks.get(EPHEMERAL) == "1",
        schema=int(marks[SCHEMA_LABEL]),
    )


def _time(text: str | None) -> datetime:
    try:
        return datetime.fromisoformat(text or "").astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
