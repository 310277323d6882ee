"""Whether a space fits on this machine."""

from __future__ import annotations

from . import machine
from .errors import InvalidRequest
from .spaces import DEFAULT_CPUS, DEFAULT_MEMORY, SpaceSpec


def check_room(spec: SpaceSpec) -> None:
    """Raise InvalidRequest for a limit above all that the machine has, since it would limit nothing.

    What nobody asked for is let through: a machine smaller than the defaults runs spaces all the same.
    """
    memory = max(machine.memory().total, DEFAULT_MEMORY)
    if spec.memory > memory:
        raise InvalidRequest(
            f"{machine.gigabytes(spec.memory)} of memory are more than this machine has",
            field="memory",
            remedy=f"it has {machine.gigabytes(memory)}",
        )
    cpus = max(machine.cpus(), DEFAULT_CPUS)
    if spec.cpus > cpus:
        raise InvalidRequest(
            f"{spec.cpus:g} CPUs are more than this machine has", field="cpus", remedy=f"it has {cpus:g}"
        )
