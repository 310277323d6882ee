"""What a space is: frozen models and the state changes that are legal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .errors import InvalidRequest

MIB = 1024 * 1024
GIB = 1024 * MIB

DEFAULT_MEMORY = 2 * GIB
DEFAULT_CPUS = 1.0
MIN_MEMORY = 32 * MIB
SCHEMA = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


#: A login shell: bash where the image has it, as people expect, else whatever sh is.
LOGIN_SHELL = ("sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh -l")


class SpaceState(StrEnum):
    """Where a space is in its life: awake, asleep with its memory, or at rest with its files only."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Network(StrEnum):
    """What a space may reach: nothing, or public addresses of the internet, through a proxy on its loopback."""

    NONE = "none"
    INTERNET = "internet"


DEFAULT_NETWORK = Network.INTERNET

#: verb -> the state it leads to, from each state it is allowed in.
#: Pausing what already sleeps deeper changes nothing, so that every verb can be repeated safely.
TRANSITIONS: Mapping[str, Mapping[SpaceState, SpaceState]] = {
    "start": dict.fromkeys(SpaceState, SpaceState.RUNNING),
    "pause": {
        SpaceState.RUNNING: SpaceState.PAUSED,
        SpaceState.PAUSED: SpaceState.PAUSED,
        SpaceState.STOPPED: SpaceState.STOPPED,
    },
    "stop": dict.fromkeys(SpaceState, SpaceState.STOPPED),
}


def check_name(name: str) -> str:
    """Return ``name`` if it may name a space.

    Raises InvalidRequest: 1 to 48 letters, digits, ``_`` and ``-``, and a letter or digit first, so that it can be a
    host name and can never be taken for an option.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot name a space",
            field="name",
            remedy="use 1 to 48 letters, digits, '_' or '-', starting with a letter or digit",
        )
    return name


def check_env(env: Mapping[str, str], *, field: str = "env") -> Mapping[str, str]:
    """Return ``env`` if each name is one a shell accepts and no value holds a NUL; else raises InvalidRequest."""
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name!r} cannot name an environment variable",
                field=f"{field}.{name}",
                remedy="use letters, digits and '_', not starting with a digit",
            )
        if "\0" in value:
            raise InvalidRequest(f"the value of {name} holds a NUL character", field=f"{field}.{name}")
    return env


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """What was asked for.  ``memory`` in bytes; ``image`` None means the engine's default."""

    image: str | None = None
    memory: int = DEFAULT_MEMORY
    cpus: float = DEFAULT_CPUS
    network: Network = DEFAULT_NETWORK
    env: Mapping[str, str] = field(default_factory=dict)
    require_limits: bool = False

    def __post_init__(self) -> None:
        if self.memory < MIN_MEMORY:
            raise InvalidRequest(
                f"{self.memory} bytes of memory are too few for a space",
                field="memory",
                remedy=f"ask for at least {MIN_MEMORY // MIB}m",
            )
        if not 0.01 <= self.cpus <= 4096:
            raise InvalidRequest(
                f"{self.cpus} is not a number of CPUs", field="cpus", remedy="ask for 0.01 to 4096, for instance 1.5"
            )
        check_env(self.env)


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """Who a sandbox is: written with the engine when it is claimed, and never changed.

    ``id`` is 12 hex digits.  An ``ephemeral`` space is destroyed when the process that asked for it is gone.
    """

    id: str
    name: str
    owner: str
    spec: SpaceSpec
    created: datetime
    ephemeral: bool = False
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Space:
    """One space as it is now.

    ``started`` is when its main process last started; ``not_enforced`` lists the limits of its spec that its engine
    cannot enforce (``memory``, ``cpus``, ``pids``).
    """

    record: SpaceRecord
    state: SpaceState
    engine: str
    image: str
    started: datetime | None = None
    not_enforced: tuple[str, ...] = ()
    last_activity: datetime | None = None

    @property
    def id(self) -> str:
        """The 12 hex digits that stay with the space for life."""
        return self.record.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self.record.name


@dataclass(frozen=True, slots=True)
class KeptVolume:
    """Files of a destroyed space, kept until they are adopted by a new one or removed."""

    id: str
    name: str
    owner: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of one space as the engine or its cgroup reports them; bytes and seconds, cumulative where they grow."""

    cpu_seconds: float
    memory_bytes: int
    memory_limit_bytes: int
    pids: int
    block_read_bytes: int = 0
    block_write_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a space uses now.  ``cpu_percent``: 100 is one CPU kept busy since about a second ago."""

    usage: Usage
    cpu_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Something in a folder of a workspace.  ``path`` begins with ``/``, which is /workspace.

    ``type`` is ``file``, ``dir``, ``symlink`` or ``other``.
    """

    name: str
    path: str
    type: str
    size: int
    mtime_ms: int


@dataclass(frozen=True, slots=True)
class Death:
    """Why a space's main process ended.  ``oom`` means that the memory limit killed it."""

    exit_code: int | None
    oom: bool


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """Columns and rows of a terminal."""

    cols: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command to run.  ``timeout`` in seconds; ``cwd`` is absolute, or relative to /workspace; a ``tty`` joins the
    outputs into one.  Of one to ``detach`` more output is kept while nobody follows it."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    timeout: float | None = None
    stdin: bytes = b""
    tty: TerminalSize | None = None
    detach: bool = False

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise InvalidRequest("there is no command to run", field="command", remedy="name a program")
        if any("\0" in part for part in (*self.argv, self.cwd)):
            raise InvalidRequest("a command cannot hold a NUL character", field="command")
        if self.timeout is not None and not 0 < self.timeout <= 86400 * 30:
            raise InvalidRequest(
                f"{self.timeout} is not a time limit", field="timeout", remedy="give seconds, more than 0"
            )
        check_env(self.env)


@dataclass(frozen=True, slots=True)
class RunningCommand:
    """A command of a space, running or ended unseen."""

    id: str
    argv: tuple[str, ...]
    started: datetime
    running: bool


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended, with what it wrote, byte for byte.

    ``exit_code`` is the real one; a command killed by a signal has 128 + its number and names it in ``signal``.
    ``truncated`` says that output beyond the bound was dropped.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    duration: float
    signal: int | None = None
    timed_out: bool = False
    truncated: bool = False
