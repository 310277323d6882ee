"""Models to JSON and back: the one place that knows the shapes of the REST API.  Pure functions, standard library."""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import ERRORS_BY_CODE, Broken, InvalidRequest, NotFound, SpaceError, Unavailable
from .protocols import Capabilities
from .spaces import (
    MIB,
    ExecRequest,
    ExecResult,
    FileEntry,
    KeptVolume,
    Network,
    RunningCommand,
    Space,
    SpaceRecord,
    SpaceSpec,
    SpaceState,
    Stats,
)

Json = dict[str, Any]

#: Who asks, as a Jupyter server found out; percent-encoded.  The daemon's user alone can reach the daemon to say so.
PRINCIPAL_HEADER = "X-Clawdspace-Principal"
KEY_HEADER = "Idempotency-Key"

MOUNTPOINT = "/workspace"
MAX_MEMORY = 2**50

#: How many characters of somebody's input an error message repeats.
_QUOTED = 80

_MEMORY = re.compile(r"([0-9]{1,18})(\.[0-9]{1,9})?(?:(b)|([kmgt])(?:i?b)?)?", re.IGNORECASE | re.ASCII)
#: What reading a JSON value as one of our models raises when it is none.
_WRONG_SHAPE = (KeyError, TypeError, ValueError, AttributeError, InvalidRequest)

_UNITS = {"": MIB, "b": 1, "k": 1024, "m": MIB, "g": 1024 * MIB, "t": 1024 * 1024 * MIB}


def dumps(value: object) -> bytes:
    """Return compact UTF-8 JSON."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # A lone surrogate of somebody's request, repeated in an error message, has no UTF-8 form.
    return text.encode("utf-8", "replace")


def quoted(text: object) -> str:
    """Return somebody's input as an error message may show it: quoted, and cut when long."""
    shown = repr(text)
    return shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]}…"


def parse_memory(value: str | float) -> int:
    """Return bytes for ``"2g"``, ``"512m"``, ``"65536k"``, ``"1.5GiB"``, ``"1048576b"`` or a bare number of MiB.

    Raises InvalidRequest for anything else, or for more than a PiB.
    """
    found = None if isinstance(value, bool) else _MEMORY.fullmatch(str(value).strip())
    if found is None:
        raise InvalidRequest(
            f"{quoted(value)} is not an amount of memory", field="memory", remedy="write for instance '2g' or '512m'"
        )
    whole, fraction, byte, unit = found.groups()
    number = float(whole + fraction) if fraction else int(whole)
    size = int(number * _UNITS[(byte or unit or "").lower()])
    if size > MAX_MEMORY:
        raise InvalidRequest(f"{quoted(value)} is more memory than any machine has", field="memory")
    return size


def space_to_json(space: Space) -> Json:
    """Return a space as the API shows it; what was put into its environment is not shown."""
    spec = space.record.spec
    shape: Json = {
        "name": space.name,
        "id": space.id,
        "status": space.state.value,
        "created": _time_to_json(space.record.created),
        "started": _time_to_json(space.started),
        "image": space.image,
        "memory": spec.memory,
        "cpus": _number(spec.cpus),
        "lastActivity": _time_to_json(space.last_activity),
        "volume": {"name": space.id, "mountpoint": MOUNTPOINT},
        "engine": space.engine,
        "owner": space.record.owner,
        "network": spec.network.value,
    }
    if space.not_enforced:
        shape["notEnforced"] = list(space.not_enforced)
    if space.record.ephemeral:
        shape["ephemeral"] = True
    return shape


def space_from_json(shape: Mapping[str, Any]) -> Space:
    """Return the space that ``space_to_json`` showed, but for its environment.  Raises Broken on another shape."""
    try:
        spec = SpaceSpec(
            image=shape["image"], memory=shape["memory"], cpus=shape["cpus"], network=Network(shape["network"])
        )
        record = SpaceRecord(
            id=shape["id"],
            name=shape["name"],
            owner=shape["owner"],
            spec=spec,
            created=datetime.fromisoformat(shape["created"]),
            ephemeral=shape.get("ephemeral", False),
        )
        return Space(
            record=record,
            state=SpaceState(shape["status"]),
            engine=shape["engine"],
            image=shape["image"],
            started=_time_from_json(shape["started"]),
            not_enforced=tuple(shape.get("notEnforced", ())),
            last_activity=_time_from_json(shape["lastActivity"]),
        )
    except _WRONG_SHAPE as error:
        raise _unknown_shape("space") from error


def stats_to_json(stats: Stats) -> Json:
    """Return what a space uses now.  Networks are not counted yet."""
    return {
        "cpuPercent": stats.cpu_percent,
        "memoryUsageBytes": stats.usage.memory_bytes,
        "memoryLimitBytes": stats.usage.memory_limit_bytes,
        "pids": stats.usage.pids,
        "networkRxBytes": 0,
        "networkTxBytes": 0,
        "blockReadBytes": stats.usage.block_read_bytes,
        "blockWriteBytes": stats.usage.block_write_bytes,
    }


def entry_to_json(entry: FileEntry) -> Json:
    """Return something in a folder as the API lists it."""
    return {
        "name": entry.name,
        "path": entry.path,
        "type": entry.type,
        "size": entry.size,
        "mtimeMs": entry.mtime_ms,
    }


def entry_from_json(shape: Mapping[str, Any]) -> FileEntry:
    """Return what ``entry_to_json`` showed.  Raises Broken on another shape."""
    try:
        return FileEntry(shape["name"], shape["path"], shape["type"], shape["size"], shape["mtimeMs"])
    except _WRONG_SHAPE as error:
        raise _unknown_shape("file") from error


def kept_to_json(volume: KeptVolume) -> Json:
    """Return the files of a destroyed space as the API lists them."""
    return {
        "id": volume.id,
        "name": volume.name,
        "owner": volume.owner,
        "created": _time_to_json(volume.created),
    }


def kept_from_json(shape: Mapping[str, Any]) -> KeptVolume:
    """Return what ``kept_to_json`` showed.  Raises Broken on another shape."""
    try:
        created = datetime.fromisoformat(shape["created"])
        return KeptVolume(id=shape["id"], name=shape["name"], owner=shape["owner"], created=created)
    except _WRONG_SHAPE as error:
        raise _unknown_shape("volume") from error


def create_to_json(name: str, spec: SpaceSpec, *, adopt_volume: bool, engine: str | None) -> Json:
    """Return the body of a request to create a space."""
    return {
        "name": name,
        "memory": f"{spec.memory}b",
        "cpus": spec.cpus,
        "image": spec.image,
        "env": dict(spec.env),
        "network": spec.network.value,
        "requireLimits": spec.require_limits,
        "adoptVolume": adopt_volume,
        "engine": engine,
    }


def command_to_json(request: ExecRequest) -> Json:
    """Return what an exec and a streamed exec have in common."""
    return {
        "command": list(request.argv),
        "env": dict(request.env),
        "cwd": request.cwd,
        "timeout": request.timeout,
    }


def command_info_to_json(command: RunningCommand) -> Json:
    """Return a command that runs, or ended unseen."""
    return {
        "id": command.id,
        "command": list(command.argv),
        "started": _time_to_json(command.started),
        "running": command.running,
    }


def command_info_from_json(shape: Mapping[str, Any]) -> RunningCommand:
    """Return what ``command_info_to_json`` showed.  Raises Broken on another shape."""
    try:
        started = datetime.fromisoformat(shape["started"])
        return RunningCommand(shape["id"], tuple(shape["command"]), started, shape["running"])
    except _WRONG_SHAPE as error:
        raise _unknown_shape("command") from error


def exec_to_json(result: ExecResult, *, base64: bool = False) -> Json:
    """Return how a command ended.

    As text, bytes that are not UTF-8 are replaced and ``invalidUtf8`` says so; in base64 every byte is kept.
    """
    shape: Json = {
        "stdout": bytes_to_json(result.stdout, base64=base64),
        "stderr": bytes_to_json(result.stderr, base64=base64),
        "exitCode": result.exit_code,
        "durationMs": round(result.duration * 1000, 1),
        "truncated": result.truncated,
    }
    if base64:
        shape["encoding"] = "base64"
    elif not (_is_utf8(result.stdout) and _is_utf8(result.stderr)):
        shape["invalidUtf8"] = True
    return shape | ending_to_json(result.signal, timed_out=result.timed_out)


def ending_to_json(signal: int | None, *, timed_out: bool) -> Json:
    """Return the fields that are there only when a command did not end by itself."""
    return ({} if signal is None else {"signal": signal}) | ({"timedOut": True} if timed_out else {})


def exec_from_json(shape: Mapping[str, Any]) -> ExecResult:
    """Return the result that ``exec_to_json`` showed in base64.  Raises Broken on another shape."""
    try:
        return ExecResult(
            stdout=b64decode(shape["stdout"], validate=True),
            stderr=b64decode(shape["stderr"], validate=True),
            exit_code=shape["exitCode"],
            duration=shape["durationMs"] / 1000,
            signal=shape.get("signal"),
            timed_out=shape.get("timedOut", False),
            truncated=shape["truncated"],
        )
    except _WRONG_SHAPE as error:
        raise _unknown_shape("result") from error


def capabilities_to_json(capabilities: Capabilities) -> Json:
    """Return what an engine says of itself."""
    return {
        "name": capabilities.engine,
        "version": capabilities.version,
        "defaultImage": capabilities.default_image,
        "notEnforced": list(capabilities.not_enforced),
        "facts": dict(capabilities.facts),
    }


def error_to_json(error: SpaceError) -> Json:
    """Return a failure as every route reports it.

    A missing space has no ``field``: old clients take a ``"name"`` in an answer for a space that is there.
    """
    shape: Json = {"error": error.message, "code": error.code}
    if error.field and not isinstance(error, NotFound):
        shape["field"] = error.field
    if error.reason:
        shape["reason"] = error.reason
    if error.remedy:
        shape["remedy"] = error.remedy
    return shape


def error_from_json(status: int, shape: object) -> SpaceError:
    """Return the failure that an answer with this HTTP status reports."""
    if not isinstance(shape, dict) or not isinstance(shape.get("error"), str):
        return Unavailable(f"the answer, HTTP status {status}, is none of clawdspace's")
    kind = ERRORS_BY_CODE.get(shape.get("code", ""), InvalidRequest if 400 <= status < 500 else Broken)
    return kind(shape["error"], field=shape.get("field"), remedy=shape.get("remedy"), reason=shape.get("reason"))


def _unknown_shape(what: str) -> Broken:
    return Broken(
        f"a {what} came in a shape that this version does not know",
        remedy="use the same version of clawdspace on both sides",
    )


def _time_to_json(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def _time_from_json(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def bytes_to_json(data: bytes, *, base64: bool) -> str:
    """Return bytes in base64, or as text in which what is not UTF-8 is replaced."""
    return b64encode(data).decode("ascii") if base64 else data.decode("utf-8", "replace")


def bytes_from_json(text: str, *, base64: bool, field: str) -> bytes:
    """Return the bytes somebody sent as text or in base64.  Raises InvalidRequest."""
    if not base64:
        return text.encode("utf-8")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{field} is not base64", field=field) from None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
