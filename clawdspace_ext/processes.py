"""A command running in a space, followed from the daemon and found again when its session was lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import Broken, InvalidRequest, NotFound, Refused, SpaceError, Unavailable
from .flow import Chunk, Flow
from .link import Link
from .spaces import ExecRequest, ExecResult, RunningCommand

STDOUT, STDERR = 1, 2
MAX_COLLECTED = 8 * 1024 * 1024
#: Bytes of a command with its environment, as JSON: they travel in one frame, with a little besides.
MAX_COMMAND = 60 * 1024


class SpaceProcess:
    """Satisfies ``protocols.Process`` over a flow of the space's link.

    ``exit_code``, ``exit_signal``, ``timed_out`` and ``truncated`` are known when ``output`` has ended.  ``relink``
    gives a connected link again after the session was lost.
    """

    def __init__(self, process_id: str, flow: Flow, relink: Callable[[], Awaitable[Link]]) -> None:
        self.id = process_id
        self.exit_code: int | None = None
        self.exit_signal: int | None = None
        self.timed_out = False
        self.truncated = False
        self._flow = flow
        self._relink = relink
        self.lost = {STDOUT: 0, STDERR: 0}
        self._seen = {STDOUT: 0, STDERR: 0}
        self._started = time.monotonic()
        self._signals: set[asyncio.Task[None]] = set()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (channel, bytes) until the process has ended.

        Raises Refused when it could not be started, Unavailable when the space went away under it.
        """
        while self.exit_code is None:
            try:
                item = await self._flow.read()
            except Unavailable as lost:
                await self._attach_again(lost)
                continue
            if item is None:
                raise Broken("a process ended without an exit code")
            if isinstance(item, Chunk):
                if item.channel in self._seen:
                    self._seen[item.channel] += len(item.data)
                    yield item.channel, item.data
            else:
                self._told(item)
        self._flow.end()

    async def write(self, data: bytes) -> None:
        """Send bytes to its stdin, waiting while it does not read.  After its end they are dropped."""
        if self.exit_code is None:
            try:
                await self._flow.write(data)
            except Refused:
                return  # it ended meanwhile; ``output`` tells how

    def end_stdin(self) -> None:
        """Close its stdin."""
        self._flow.send({"eof": True})

    def signal(self, number: int) -> None:
        """Send a signal to its process group, past any stdin that it does not read."""
        job = asyncio.create_task(self._signal(number))
        self._signals.add(job)
        job.add_done_callback(self._signals.discard)

    async def _signal(self, number: int) -> None:
        try:
            link = await self._relink()
            await link.call("signal", {"id": self.id, "signal": number})
        except SpaceError:
            return  # it has ended, or its space has; ``output`` tells how

    def resize(self, cols: int, rows: int) -> None:
        """Tell its terminal a new size."""
        self._flow.send({"resize": [cols, rows]})

    def detach(self) -> None:
        """Stop following; the process runs on."""
        self._flow.reset()

    async def collect(self, stdin: bytes = b"") -> ExecResult:
        """Send all of stdin, and return how it ended with what it wrote; beyond 8 MiB an output is cut."""
        feeder = asyncio.create_task(self._feed(stdin)) if stdin else None
        kept: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        sizes = {STDOUT: 0, STDERR: 0}
        try:
            async for channel, data in self.output():
                room = MAX_COLLECTED - sizes[channel]
                if len(data) > room:
                    data = data[:room]
                    self.truncated = True
                sizes[channel] += len(data)
                kept[channel].append(data)
        finally:
            if feeder is not None:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)
        assert self.exit_code is not None
        return ExecResult(
            stdout=b"".join(kept[STDOUT]),
            stderr=b"".join(kept[STDERR]),
            exit_code=self.exit_code,
            duration=time.monotonic() - self._started,
            signal=self.exit_signal,
            timed_out=self.timed_out,
            truncated=self.truncated,
        )

    async def _feed(self, stdin: bytes) -> None:
        await self.write(stdin)
        self.end_stdin()

    def _told(self, message: dict[str, Any]) -> None:
        """Take a message of the agent, which may be a lie: types are checked, and an exit code is a byte."""
        if "exit" in message:
            code, number = message["exit"], message.get("signal")
            self.exit_code = code if isinstance(code, int) and 0 <= code < 256 else 255
            self.exit_signal = number if isinstance(number, int) and 0 < number < 128 else None
            self.timed_out = message.get("timedOut") is True
        elif isinstance(begun := message.get("from"), dict):
            for channel, known in self._seen.items():
                start = begun.get(str(channel), known)
                if isinstance(start, int) and start > known:
                    self.truncated = True
                    self.lost[channel] += start - known
                    self._seen[channel] = start

    async def begin(self) -> None:
        """Wait until the agent has said how much of the outputs it still has.  Raises Refused."""
        item = await self._flow.read()
        if not isinstance(item, dict):
            raise Broken("a process was found again in a way that is not known")
        self._told(item)

    async def _attach_again(self, lost: Unavailable) -> None:
        """Follow the same process on a new flow; raises ``lost`` when its space does not run any more."""
        try:
            link = await self._relink()
        except SpaceError:
            raise lost from None
        self._flow = await link.open("attach", {"id": self.id, "offsets": {str(c): n for c, n in self._seen.items()}})


async def start_process(
    link: Link, process_id: str, request: ExecRequest, relink: Callable[[], Awaitable[Link]], *, stdin: bool
) -> SpaceProcess:
    """Ask the agent to run a command, with a pipe as its stdin or with none.

    Nothing is known yet of how that goes: ``output`` tells.
    """
    args: dict[str, Any] = {
        "id": process_id,
        "argv": list(request.argv),
        "env": dict(request.env),
        "cwd": request.cwd,
        "stdin": stdin,
        "timeout": request.timeout,
        "detach": request.detach,
    }
    if request.tty is not None:
        args["tty"] = [request.tty.cols, request.tty.rows]
    _check_size(args)
    return SpaceProcess(process_id, await link.open("exec", args), relink)


def _check_size(args: Mapping[str, Any]) -> None:
    if len(json.dumps(args)) <= MAX_COMMAND:
        return
    field = "command" if len(json.dumps(args["argv"])) > MAX_COMMAND // 2 else "env"
    raise InvalidRequest(
        f"the command and its environment are longer than {MAX_COMMAND // 1024} KiB",
        field=field,
        remedy="send a script as stdin of 'sh', or as a file",
    )


async def attach_process(link: Link, process_id: str, relink: Callable[[], Awaitable[Link]]) -> SpaceProcess:
    """Follow a command that was started before, from the first byte that is kept.  Raises NotFound."""
    flow = await link.open("attach", {"id": process_id})
    process = SpaceProcess(process_id, flow, relink)
    try:
        await process.begin()
    except Refused as error:
        raise explained(error) from None
    return process


def running_commands(told: Any) -> list[RunningCommand]:
    """Return the commands that an agent told of.  Raises Broken for another shape."""
    try:
        return [
            RunningCommand(
                str(entry["id"]),
                tuple(str(word) for word in entry["argv"]),
                datetime.fromtimestamp(entry["started"], UTC),
                entry["running"] is True,
            )
            for entry in told
        ]
    except (TypeError, KeyError, ValueError, OverflowError, OSError):
        raise Broken("the space listed its commands in a shape that is not known") from None


def explained(error: Refused) -> SpaceError:
    """Return the failure that an agent's refusal about a command means."""
    if error.reason != "not_found":
        return error
    return NotFound(error.message, remedy="GET …/exec, or `clawdspace ps`, lists those there are")
