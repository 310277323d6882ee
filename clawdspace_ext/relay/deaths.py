"""Why a kernel ended, in words."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from ..errors import NotFound, SpaceError
from ..service import Spaces
from ..spaces import MIB, SpaceState

LOG_TAIL = 1000


@dataclass(frozen=True, slots=True)
class Ending:
    """How a kernel's process ended; ``exit_code`` is 128 + the signal's number for one that a signal killed."""

    exit_code: int
    reason: str


UNKNOWN = Ending(1, "it ended, and nobody knows how")


def of_process(event: dict[str, Any], memory: int) -> Ending:
    """Explain what the agent reported; ``memory`` is the space's limit in bytes."""
    status = event.get("status")
    if not isinstance(status, int) or not 0 <= status <= 0xFFFF:
        return UNKNOWN
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if event.get("oom") is True and number == signal.SIGKILL:
            return _out_of_memory(memory)
        return Ending(128 + number, f"killed by signal {number} ({_signal_name(number)})")
    if not os.WIFEXITED(status):
        return UNKNOWN
    code = os.WEXITSTATUS(status)
    said = _printable(str(event.get("log", ""))[-LOG_TAIL:]) if code else ""
    return Ending(code, f"exit code {code}" + (f": {said}" if said else ""))


async def of_space(spaces: Spaces, name: str, engine: str) -> Ending | None:
    """Explain that the kernel's space is no longer there or no longer runs, or return None when it does.

    An engine that does not answer, or that the daemon has not found yet, says nothing about its spaces.
    """
    try:
        space = await spaces.get(name)
        if space.state is not SpaceState.STOPPED:
            return None
        death = await spaces.death(name)
    except NotFound:
        known = not engine or engine in (known.name for known in spaces.engines)
        return Ending(128 + signal.SIGKILL, "the space was destroyed") if known else None
    except SpaceError:
        return None
    if death is not None and death.oom:
        return _out_of_memory(space.record.spec.memory)
    return Ending(128 + signal.SIGKILL, "the space was stopped")


def _out_of_memory(limit: int) -> Ending:
    return Ending(128 + signal.SIGKILL, f"out of memory (limit {limit // MIB} MiB)")


def _printable(text: str) -> str:
    """Return what a terminal can show without obeying it."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
