"""Every failure clawdspace reports, in one tree.

    SpaceError
    ├── InvalidRequest     the request is wrong; ``field`` names the part at fault
    ├── NotFound           no such space, kernel or process
    ├── Conflict           the name is taken, or the state does not allow the verb
    ├── Unsupported        this engine or installation cannot do it
    ├── Unavailable        an engine, a link or the daemon does not answer (try again)
    ├── TimedOut           it did not finish in the time allowed
    ├── Refused            the space's agent said no (a file is missing, a port is closed, …)
    └── Broken             something that must hold does not: a bug, or hostile input

Foreign exceptions are translated once, where they enter: Docker's in ``engines/docker/``, an agent's in ``link.py``,
HTTP's in ``client.py``; the way out is ``handlers/errors.py``.
"""

from __future__ import annotations


class SpaceError(Exception):
    """A failure meant to be read by a person.

    ``message`` says what is wrong, ``remedy`` what to do about it, ``field`` which part of the request is at fault.
    ``code`` is stable and meant for programs, as is ``reason``, which tells failures of one code apart.
    """

    code = "error"

    def __init__(
        self, message: str, *, field: str | None = None, remedy: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InvalidRequest(SpaceError):
    """The request is wrong and will stay wrong."""

    code = "invalid"


class NotFound(SpaceError):
    """There is no such space, kernel or process."""

    code = "not_found"


class Conflict(SpaceError):
    """The name is taken, or the present state does not allow the verb."""

    code = "conflict"


class Unsupported(SpaceError):
    """This engine or installation cannot do what was asked."""

    code = "unsupported"


class Unavailable(SpaceError):
    """An engine, a link or the daemon does not answer; the same request may work later."""

    code = "unavailable"


class TimedOut(SpaceError):
    """It did not finish in the time allowed."""

    code = "timeout"


class Refused(SpaceError):
    """The agent of a space refused a flow, for instance because a file does not exist; ``reason`` is its code."""

    code = "refused"


class Broken(SpaceError):
    """Something that must hold does not: a defect of ours, or input that only a hostile space would send."""

    code = "broken"


ERRORS_BY_CODE: dict[str, type[SpaceError]] = {
    kind.code: kind
    for kind in (InvalidRequest, NotFound, Conflict, Unsupported, Unavailable, TimedOut, Refused, Broken)
}
