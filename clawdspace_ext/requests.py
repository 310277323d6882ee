"""Request bodies: what may be asked for, checked field by field.  A field that no model knows is an error."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from .errors import InvalidRequest, Unsupported
from .spaces import (
    DEFAULT_CPUS,
    DEFAULT_MEMORY,
    DEFAULT_NETWORK,
    ExecRequest,
    Network,
    SpaceSpec,
    TerminalSize,
    check_name,
)
from .wire import bytes_from_json, parse_memory, quoted

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}")

#: Fields the API names that nothing implements yet; their empty and default values are accepted.
_LATER = ("gpu", "template", "env_file_text", "env_file_base64", "repo_url", "repo_branch", "repo_dest")

_SHAPES = {"command": "a string for sh, or a list of strings", "env": "an object of strings"}

Shape = TypeVar("Shape", bound=BaseModel)


def _memory(value: object) -> object:
    return parse_memory(value) if isinstance(value, (str, int, float)) else value


def _cpus(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True)


class CreateBody(_Body):
    """``POST /api/spaces``."""

    name: str
    memory: Annotated[int | None, BeforeValidator(_memory)] = None
    cpus: Annotated[float | None, BeforeValidator(_cpus)] = None
    image: str | None = None
    env: dict[str, str] | None = None
    network: str | None = None
    adopt_volume: bool | None = None
    require_limits: bool | None = None
    engine: str | None = None

    gpu: Any = None
    template: Any = None
    env_file_text: Any = None
    env_file_base64: Any = None
    env_file_path: Literal["/workspace/.env", "", None] = None
    repo_url: Any = None
    repo_branch: Any = None
    repo_dest: Any = None

    def spec(self) -> SpaceSpec:
        """Return what was asked for.

        Raises InvalidRequest for values no space can have, Unsupported for what this version cannot do.
        """
        check_name(self.name)
        self._refuse_later_fields()
        return SpaceSpec(
            image=_image(self.image),
            memory=DEFAULT_MEMORY if self.memory is None else self.memory,
            cpus=DEFAULT_CPUS if self.cpus is None else self.cpus,
            network=_network(self.network),
            env=self.env or {},
            require_limits=bool(self.require_limits),
        )

    def _refuse_later_fields(self) -> None:
        for field in _LATER:
            if getattr(self, field):
                alias = to_camel(field)
                raise Unsupported(
                    f"{alias} is not supported yet", field=alias, remedy="leave it out, and set things up by exec"
                )


class _Command(_Body):
    command: str | list[str]
    env: dict[str, str] | None = None
    cwd: str | None = None
    timeout: float | None = None

    def request(self, *, stdin: bytes = b"", tty: TerminalSize | None = None, detach: bool = False) -> ExecRequest:
        """Return the command to run; a string is run by ``sh -c``.  Raises InvalidRequest."""
        command = self.command
        if isinstance(command, str):
            command = ["sh", "-c", command] if command.strip() else []
        return ExecRequest(
            argv=tuple(command),
            env=self.env or {},
            cwd=self.cwd or ".",
            timeout=self.timeout,
            stdin=stdin,
            tty=tty,
            detach=detach,
        )


class ExecBody(_Command):
    """``POST /api/spaces/{name}/exec``.  ``encoding`` is how stdin is, and the outputs shall be, written."""

    stdin: str | None = None
    encoding: Literal["utf-8", "base64"] = "utf-8"

    @property
    def base64(self) -> bool:
        """Whether bytes travel as base64 instead of text."""
        return self.encoding == "base64"

    def exec_request(self) -> ExecRequest:
        """Return the command with its stdin.  Raises InvalidRequest."""
        return self.request(stdin=bytes_from_json(self.stdin or "", base64=self.base64, field="stdin"))


class _Terminal(_Body):
    cols: int = Field(ge=1, le=10000)
    rows: int = Field(ge=1, le=10000)


class StreamBody(_Command):
    """First message of a streamed exec.  ``detach``: let the command run on when the client goes away."""

    tty: _Terminal | None = None
    detach: bool = False

    def exec_request(self) -> ExecRequest:
        """Return the command with its terminal.  Raises InvalidRequest."""
        tty = TerminalSize(self.tty.cols, self.tty.rows) if self.tty else None
        return self.request(tty=tty, detach=self.detach)


class SignalBody(_Body):
    """``POST /api/spaces/{name}/exec/{id}/signal``."""

    number: int = Field(default=15, ge=1, le=64)


class FileBody(_Body):
    """``PUT /api/spaces/{name}/file`` as JSON."""

    content_base64: str

    def content(self) -> bytes:
        """Return the bytes.  Raises InvalidRequest."""
        return bytes_from_json(self.content_base64, base64=True, field="contentBase64")


class FolderBody(_Body):
    """``POST /api/spaces/{name}/files/mkdir``."""

    path: str


class MoveBody(_Body):
    """``POST /api/spaces/{name}/files/move``."""

    source: str = Field(alias="from")
    to: str
    replace: bool = False


class EndOfInput(_Body):
    """There is no more stdin."""

    type: Literal["eof"]


class Signal(_Body):
    """Send a signal to the command's process group."""

    type: Literal["signal"]
    number: int = Field(ge=1, le=64)


class Resize(_Terminal):
    """The terminal has another size."""

    type: Literal["resize"]


Control = EndOfInput | Signal | Resize
_CONTROL: TypeAdapter[Control] = TypeAdapter(Annotated[Control, Field(discriminator="type")])


def read_body(shape: type[Shape], raw: bytes | str) -> Shape:
    """Return the body as its model.  Raises InvalidRequest, with the field at fault."""
    value = _load(raw)
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        _refuse(error)


def read_control(raw: str) -> Control:
    """Return a message sent to a running command.  Raises InvalidRequest, with the field at fault."""
    value = _load(raw)
    try:
        return _CONTROL.validate_python(value)
    except ValidationError as error:
        _refuse(error)


def _load(raw: bytes | str) -> dict[str, Any]:
    text = raw if isinstance(raw, bytes) else raw.encode()
    try:
        value = json.loads(text or b"{}")
        if rb"\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair passes as text, and is none
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON", remedy="send a JSON object, in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object", remedy='send for instance {"name":"dev"}')
    return value


def _refuse(error: ValidationError) -> NoReturn:
    """Report the first thing that is wrong with a body."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = first["loc"][:1] if first["loc"][:1] == ("command",) else first["loc"]
    field = ".".join(str(part) for part in where) or None
    match first["type"]:
        case "extra_forbidden":
            message = f"there is no field {quoted(field)}"
        case "missing":
            message = f"the field {field} is missing"
        case "union_tag_not_found" | "union_tag_invalid":
            raise InvalidRequest("the message has no known type", field="type") from None
        case _ if field in _SHAPES:
            message = f"{field} must be {_SHAPES[field]}"
        case _:
            message = f"{quoted(field)}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    raise InvalidRequest(message, field=field[:100] if field else None) from None


def _image(image: str | None) -> str | None:
    if image and not _IMAGE.fullmatch(image):
        raise InvalidRequest(
            f"{quoted(image)} cannot name an image", field="image", remedy="write for instance 'python:3.12-slim'"
        )
    return image or None


def _network(network: str | None) -> Network:
    if not network:
        return DEFAULT_NETWORK
    try:
        return Network(network)
    except ValueError:
        known = ", ".join(repr(mode.value) for mode in Network)
        raise Unsupported(
            f"the network {quoted(network)} is not supported", field="network", remedy=f"use {known}"
        ) from None
