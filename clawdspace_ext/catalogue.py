"""What spaces there are, as the engines last said."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from .errors import InvalidRequest, NotFound, SpaceError, Unavailable
from .protocols import Engine
from .spaces import Space, SpaceState

log = logging.getLogger(__name__)

FRESH = 1.0
NO_ENGINE = "start Docker, or install bubblewrap (Debian: apt-get install bubblewrap); `clawdspace doctor` tells more"


class Catalogue:
    """The engines in use, and their spaces by name.

    The engines are the truth; what they said is good for FRESH seconds.  The spaces of an engine that does not answer
    stay known as they were.
    """

    def __init__(self, engines: Iterable[Engine]) -> None:
        self._engines = list(engines)
        self._known: dict[str, Space] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._noted = 0
        self._listeners: list[Callable[[], None]] = []

    # -- engines -----------------------------------------------------------------------------------------------------

    @property
    def engines(self) -> Sequence[Engine]:
        """The engines in use, the default first."""
        return tuple(self._engines)

    def add(self, engine: Engine, *, default: bool) -> None:
        """Use one more engine."""
        self._engines.insert(0 if default else len(self._engines), engine)
        self.expire()

    def choose(self, name: str | None) -> Engine:
        """Return the engine of a name, or the default.  Raises InvalidRequest; Unavailable when there is none."""
        if not self._engines:
            raise Unavailable("nothing here can run a space", remedy=NO_ENGINE)
        for engine in self._engines:
            if name in (None, engine.name):
                return engine
        names = ", ".join(engine.name for engine in self._engines)
        raise InvalidRequest(f"there is no engine {name!r} here", field="engine", remedy=f"choose one of: {names}")

    def engine_of(self, space: Space) -> Engine:
        """Return the engine that runs a space."""
        return next(engine for engine in self._engines if engine.name == space.engine)

    # -- spaces ------------------------------------------------------------------------------------------------------

    @property
    def spaces(self) -> Sequence[Space]:
        """Every space that is known, by name."""
        return [self._known[name] for name in sorted(self._known)]

    def find(self, name: str) -> Space | None:
        """Return a space that is known, or None."""
        return self._known.get(name)

    def get(self, name: str) -> Space:
        """Return a space that is known.  Raises NotFound."""
        space = self._known.get(name)
        if space is None:
            raise NotFound(f"there is no space named {name}", field="name", remedy="`clawdspace list` shows all")
        return space

    def note(self, space: Space, state: SpaceState) -> None:
        """Remember a change that was just made."""
        self._noted += 1
        self._known[space.name] = replace(space, state=state)
        self._changed()

    def forget(self, name: str) -> None:
        """Remember that a space was just destroyed."""
        self._noted += 1
        self._known.pop(name, None)
        self._changed()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call back whenever a space has come, gone or changed its state."""
        self._listeners.append(listener)

    def expire(self) -> None:
        """Ask the engines again next time."""
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Ask the engines what exists, unless that was just done."""
        async with self._reading:
            if time.monotonic() - self._read_at < FRESH:
                return
            before = self._known
            found = await self._read()
            self._known, self._read_at = found, time.monotonic()
        if {n: s.state for n, s in before.items()} != {n: s.state for n, s in found.items()}:
            self._changed()

    async def _read(self) -> dict[str, Space]:
        """Ask every engine, and again when something was changed meanwhile: the answer may be of before."""
        while True:
            noted = self._noted
            spaces = [space for engine in self.engines for space in await self._ask(engine)]
            if noted == self._noted:
                return {space.name: space for space in spaces}

    async def _ask(self, engine: Engine) -> Sequence[Space]:
        try:
            return await engine.list()
        except SpaceError as error:
            log.warning("%s does not answer: %s", engine.name, error)
            return [space for space in self._known.values() if space.engine == engine.name]

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
