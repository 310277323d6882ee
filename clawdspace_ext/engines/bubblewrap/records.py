"""What the engine writes down about a space, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...errors import Broken, InvalidRequest
from ...spaces import SCHEMA, Network, SpaceRecord, SpaceSpec


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sandbox before it is anybody's.

    ``volume`` is the id of the files that are its /workspace, ``uid`` the host's user id its processes and files have.
    """

    volume: str
    uid: int
    spec: SpaceSpec


def write_prepared(prepared: Prepared) -> bytes:
    """Return ``prepared`` as JSON."""
    return _dump({"volume": prepared.volume, "uid": prepared.uid, "spec": _spec_fields(prepared.spec)})


def read_prepared(data: bytes) -> Prepared:
    """Read what ``write_prepared`` wrote.  Raises Broken."""
    try:
        fields = json.loads(data)
        return Prepared(volume=str(fields["volume"]), uid=int(fields["uid"]), spec=_spec(fields["spec"]))
    except (KeyError, TypeError, ValueError, InvalidRequest) as error:
        raise Broken(f"the description of a sandbox is damaged: {error!r}") from error


def write_record(record: SpaceRecord) -> bytes:
    """Return ``record`` as JSON."""
    return _dump(
        {
            "schema": record.schema,
            "id": record.id,
            "name": record.name,
            "owner": record.owner,
            "created": record.created.isoformat(),
            "ephemeral": record.ephemeral,
            "spec": _spec_fields(record.spec),
        }
    )


def read_record(data: bytes) -> SpaceRecord:
    """Read what ``write_record`` wrote.  Raises Broken, also for what a later version wrote differently."""
    try:
        fields = json.loads(data)
        if fields["schema"] > SCHEMA:
            raise Broken("the record of a space was written by a newer clawdspace", remedy="update clawdspace")
        return SpaceRecord(
            id=fields["id"],
            name=fields["name"],
            owner=fields["owner"],
            spec=_spec(fields["spec"]),
            created=datetime.fromisoformat(fields["created"]),
            ephemeral=fields["ephemeral"],
            schema=fields["schema"],
        )
    except (KeyError, TypeError, ValueError, InvalidRequest) as error:
        raise Broken(f"the record of a space is damaged: {error!r}") from error


def _spec_fields(spec: SpaceSpec) -> dict[str, Any]:
    return {
        "image": spec.image,
        "memory": spec.memory,
        "cpus": spec.cpus,
        "network": spec.network,
        "env": dict(spec.env),
        "require_limits": spec.require_limits,
    }


def _spec(fields: dict[str, Any]) -> SpaceSpec:
    return SpaceSpec(**{**fields, "network": Network(fields.get("network", Network.NONE))})


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, indent=1).encode() + b"\n"
