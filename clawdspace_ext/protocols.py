"""The seams: what a container runtime must do, and what everyone who asks for spaces sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from .spaces import Death, ExecRequest, ExecResult, KeptVolume, Space, SpaceRecord, SpaceSpec, Usage


@runtime_checkable
class Stream(Protocol):
    """A connected byte stream to a space's agent, as an engine dialled it."""

    async def read(self) -> bytes:
        """Return the next bytes, or ``b""`` at the end.  Raises OSError when the stream breaks."""

    def write(self, data: bytes) -> None:
        """Queue bytes for sending."""

    async def drain(self) -> None:
        """Wait until few bytes are queued.  Raises OSError when the stream breaks."""

    def close(self) -> None:
        """Give the stream up; safe to repeat."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do here, and how.

    ``not_enforced`` names the limits it cannot enforce; ``default_image`` what a space is made of when nobody says;
    ``facts`` are for people and ``doctor``: version, cgroup version, warnings.
    """

    engine: str
    version: str
    default_image: str
    not_enforced: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """What runs spaces on this machine.

    An engine is the truth about its spaces: it finds them again after any crash.  It raises only SpaceError.  Verbs
    are idempotent: to pause what is paused is no error.  Creating is two steps, so that nameless sandboxes can be made
    before anybody asks: ``prepare`` makes one, ``claim`` gives it a name, an owner and its limits.
    """

    name: str

    async def capabilities(self) -> Capabilities:
        """Say what this engine can do.  Raises Unavailable when it does not answer."""

    async def prepare(self, space_id: str, spec: SpaceSpec, *, adopt: str | None = None) -> None:
        """Make a sandbox, its files with it, not yet started.

        ``adopt`` is the id of kept files to use as /workspace instead of new ones.
        Raises Unsupported when the image cannot be a space, Conflict when adopted files are in use.
        """

    async def claim(self, record: SpaceRecord) -> None:
        """Give a prepared sandbox its identity and limits, for good.

        Raises Conflict when the name is taken, Unsupported when a limit cannot be enforced and
        ``record.spec.require_limits`` is set.
        """

    async def list(self) -> Sequence[Space]:
        """Return every claimed space of this installation, as it is now."""

    async def orphans(self) -> Sequence[str]:
        """Return the ids of sandboxes that were prepared and never claimed."""

    async def kept(self) -> Sequence[KeptVolume]:
        """Return the files that outlived their space."""

    async def start(self, space_id: str) -> None:
        """Start the main process of a stopped space, after which ``dial`` works."""

    async def pause(self, space_id: str) -> None:
        """Freeze every process of a running space; memory stays, links stay open."""

    async def resume(self, space_id: str) -> None:
        """Let a paused space run on."""

    async def stop(self, space_id: str) -> None:
        """End every process, paused or running; files stay."""

    async def destroy(self, space_id: str, *, remove_files: bool) -> None:
        """Remove the sandbox; keep its files unless told otherwise.  Nothing there is no error.

        Of a sandbox that was never claimed, new files are removed and adopted ones are kept again.
        """

    async def remove_kept(self, space_id: str) -> None:
        """Remove kept files.  Raises NotFound."""

    async def dial(self, space_id: str) -> Stream:
        """Open a byte stream to the agent of a running space.  Raises Unavailable."""

    async def usage(self, space_id: str) -> Usage:
        """Read the counters of a running or paused space, in milliseconds of work.  Raises NotFound."""

    async def death(self, space_id: str) -> Death | None:
        """Say why a stopped space's main process ended, if the engine knows."""

    async def close(self) -> None:
        """Release sockets and threads; spaces go on."""


class SpaceHost(Protocol):
    """Anything that offers the verbs on spaces, by name.  Raises only SpaceError."""

    async def create(
        self,
        name: str,
        spec: SpaceSpec,
        *,
        owner: str,
        adopt_volume: bool = False,
        engine: str | None = None,
        ephemeral: bool = False,
    ) -> Space:
        """Make a space and start it.

        ``adopt_volume`` gives it the files its owner kept under this name.  Raises Conflict when the name is taken,
        NotFound when there is nothing to adopt, InvalidRequest for an engine or image that is not there.
        """

    async def list(self) -> Sequence[Space]:
        """Return every space, by name."""

    async def get(self, name: str) -> Space:
        """Return one space.  Raises NotFound."""

    async def start(self, name: str) -> Space:
        """Wake or start a space."""

    async def pause(self, name: str) -> Space:
        """Put a space to sleep, its memory kept."""

    async def stop(self, name: str) -> Space:
        """End the processes of a space, its files kept."""

    async def destroy(self, name: str, *, remove_volume: bool = False) -> None:
        """Remove a space; its files are kept unless told otherwise.  Raises NotFound."""

    async def exec(self, name: str, request: ExecRequest) -> ExecResult:
        """Run a command to its end, waking the space if it sleeps."""


class Process(Protocol):
    """A command running in a space, followed while it runs.

    The ``exit_`` attributes are known when ``output`` has ended; a command killed by a signal has the code 128 + its
    number.  ``lost`` is how many bytes of an output were kept no longer when it was begun to be followed.
    """

    id: str
    exit_code: int | None
    exit_signal: int | None
    timed_out: bool
    lost: Mapping[int, int]

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (1 for stdout or 2 for stderr, bytes) until the process has ended."""

    async def write(self, data: bytes) -> None:
        """Send bytes to its stdin."""

    def end_stdin(self) -> None:
        """Close its stdin."""

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""

    def resize(self, cols: int, rows: int) -> None:
        """Tell its terminal a new size."""

    def detach(self) -> None:
        """Stop following; the process runs on."""
