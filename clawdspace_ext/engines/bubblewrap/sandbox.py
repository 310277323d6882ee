"""One sandbox and its verbs.  They block, each for milliseconds, except where they say so."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ...errors import Conflict, NotFound, Unavailable
from ...spaces import Death, SpaceSpec, SpaceState, Usage
from . import processes, status
from .cgroups import Group
from .launch import SOCKET, STATUS, Files, launch, short_path
from .machine import Machine
from .processes import MainProcess, main_process

_GRACE_SECONDS = 3.0
_KILL_SECONDS = 2.0
_EXIT_CODE_SECONDS = 0.5


class Sandbox:
    """A sandbox made of ``files``, with the limits of ``spec``."""

    def __init__(self, machine: Machine, files: Files, spec: SpaceSpec, hostname: str) -> None:
        self._machine = machine
        self._files = files
        self._folder = files.folder
        self._spec = spec
        self._hostname = hostname
        hierarchy = machine.hierarchy
        self._group: Group | None = None if hierarchy is None else hierarchy.group(files.folder.name)

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> tuple[SpaceState, datetime | None]:
        """Tell what it does now, and when it was last started."""
        launched = self._launched()
        with main_process(launched) as main:
            if main is None:
                state = SpaceState.STOPPED
            else:
                state = SpaceState.PAUSED if self._paused(main) else SpaceState.RUNNING
        return state, None if launched is None else launched.started

    def _launched(self) -> status.Status | None:
        return status.read(self._folder / STATUS)

    def _paused(self, main: MainProcess) -> bool:
        return self._freezer.frozen() if self._freezer is not None else main.stopped

    @property
    def _freezer(self) -> Group | None:
        return self._group if self._group is not None and self._group.freezes else None

    def usage(self) -> Usage:
        """Read its counters.  Raises NotFound when it is stopped."""
        with main_process(self._launched()) as main:
            if main is None:
                raise NotFound("a stopped space uses nothing", remedy="start it first")
            counted = self._group.counters() if self._group is not None else None
            counted = counted or processes.counters(main)
        return Usage(
            counted.cpu_seconds,
            counted.memory_bytes,
            self._spec.memory,
            counted.pids,
            counted.block_read_bytes,
            counted.block_write_bytes,
        )

    def death(self) -> Death | None:
        """Say how the last launch ended, None while it goes on or before the first."""
        launched = self._launched()
        with main_process(launched) as main:
            if main is not None or launched is None:
                return None
        oom = launched.oom or (self._group is not None and self._group.oom_kills() > 0)
        return Death(launched.exit_code, oom=oom and launched.exit_code == 128 + signal.SIGKILL)

    def connect(self) -> socket.socket:
        """Return a non-blocking socket connected to the agent.  Raises Unavailable."""
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            with short_path(self._folder / SOCKET) as path:
                connection.connect(path)
        except BlockingIOError:
            connection.close()
            raise Unavailable("the agent of the space takes no more connections", remedy="try again later") from None
        except OSError as error:
            connection.close()
            raise Unavailable(f"the space does not run ({error.strerror})", remedy="start it first") from None
        return connection

    # -- changing ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Launch it unless it lives; a paused one runs on."""
        with main_process(self._launched()) as main:
            if main is not None:
                self._resume(main)
                return
        self._settle()
        joins: Sequence[Path] = ()
        if self._group is not None:
            self._group.create()
            self._group.limit(self._spec.memory, self._spec.cpus)
            joins = self._group.joins
        launch(self._machine, self._files, self._hostname, self._spec.memory, joins)

    def limit(self, spec: SpaceSpec) -> None:
        """Set other limits, as far as they can be enforced, from now on if it runs."""
        with main_process(self._launched()) as main:
            if main is not None and self._group is not None:
                self._group.limit(spec.memory, spec.cpus)

    def pause(self) -> None:
        """Freeze it; a stopped one stays as it is."""
        with main_process(self._launched()) as main:
            if main is None or self._paused(main):
                return
            if self._freezer is not None:
                self._freezer.freeze()
            else:
                processes.stop_all(main)

    def resume(self) -> None:
        """Let it run on.  Raises Conflict when it is stopped."""
        with main_process(self._launched()) as main:
            if main is None:
                raise Conflict("the space is stopped", remedy="start it")
            self._resume(main)

    def _resume(self, main: MainProcess) -> None:
        if self._freezer is not None:
            self._freezer.thaw()
        else:
            processes.continue_all(main)

    def stop(self) -> None:
        """Ask the agent to end everything, and insist after 3 seconds."""
        with main_process(self._launched()) as main:
            if main is not None:
                main.signal(signal.SIGTERM)
                if self._paused(main):
                    self._resume(main)
                if not main.wait(_GRACE_SECONDS):
                    self._end(main)
                self._await_exit_code()
        self._settle()

    def kill(self) -> None:
        """End everything at once."""
        with main_process(self._launched()) as main:
            if main is not None:
                self._end(main)
        self._settle()

    def _end(self, main: MainProcess) -> None:
        main.signal(signal.SIGKILL)
        if self._freezer is not None:
            self._freezer.thaw()  # with version 1, frozen processes do not even die
        if not main.wait(_KILL_SECONDS):
            raise Unavailable("the processes of the space do not end", remedy="try again")

    def _await_exit_code(self) -> None:
        """Wait for the monitor, if it lives, to note how the main process ended."""
        deadline = time.monotonic() + _EXIT_CODE_SECONDS
        while time.monotonic() < deadline:
            launched = self._launched()
            if launched is None or launched.exit_code is not None:
                return
            time.sleep(0.001)

    def _settle(self) -> None:
        """Keep what the control group knows about a launch that is over, and remove it."""
        if self._group is None:
            return
        if self._group.oom_kills() > 0:
            status.add(self._folder / STATUS, oom=True)
        self._group.remove()
