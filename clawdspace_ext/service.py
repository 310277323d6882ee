"""The verbs on spaces, one at a time per space, over whatever engines there are."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from .catalogue import Catalogue
from .egress import Gateway
from .errors import Conflict, NotFound, Refused, SpaceError, TimedOut, Unavailable
from .link import Link
from .metering import Meter
from .processes import SpaceProcess, attach_process, explained, running_commands, start_process
from .protocols import Engine
from .room import check_room
from .spaces import (
    TRANSITIONS,
    Death,
    ExecRequest,
    ExecResult,
    KeptVolume,
    Network,
    RunningCommand,
    Space,
    SpaceRecord,
    SpaceSpec,
    SpaceState,
    Stats,
    Usage,
    check_name,
)

log = logging.getLogger(__name__)

RECONCILE = 30.0
#: Seconds that a space has to tell what runs in it: it may be put to sleep over that.
LOOK = 5.0


class Spaces:
    """Satisfies ``SpaceHost``.  ``engines``: the first is the default for new spaces.

    A verb on a space with a living link does not ask its engine what there is.  Without a ``gateway``, no space has a
    network.
    """

    def __init__(self, engines: Sequence[Engine], gateway: Gateway | None = None) -> None:
        self._catalogue = Catalogue(engines)
        self._gateway = gateway
        self._links: dict[str, Link] = {}
        #: Spaces whose link is there before their engine says that they run.
        self._starting: set[str] = set()
        self._past_reconnects = 0
        self._meter = Meter()
        self._locks: dict[str, asyncio.Lock] = {}
        self._reserved: set[str] = set()
        self._activity: dict[str, datetime] = {}
        self._keeper: asyncio.Task[None] | None = None

    # -- engines -----------------------------------------------------------------------------------------------------

    @property
    def engines(self) -> Sequence[Engine]:
        """The engines in use, the default first."""
        return self._catalogue.engines

    async def add_engine(self, engine: Engine, *, default: bool = False) -> None:
        """Use one more engine, and remove what an earlier daemon left unfinished in it."""
        await _remove_orphans(engine)
        self._catalogue.add(engine, default=default)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call back whenever a space has come, gone or changed its state."""
        self._catalogue.on_change(listener)

    async def begin(self) -> None:
        """Take stock: learn what exists, remove what was never finished, and keep in step from now on."""
        for engine in self.engines:
            await _remove_orphans(engine)
        await self._refresh()
        self._keeper = asyncio.create_task(self._keep_in_step(), name="reconcile")

    async def close(self) -> None:
        """Let go of links and engines; spaces go on."""
        if self._keeper is not None:
            self._keeper.cancel()
        for link in list(self._links.values()):
            await link.close("the daemon leaves")
        for engine in self.engines:
            await engine.close()

    # -- verbs -------------------------------------------------------------------------------------------------------

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
        """Make a space and start it; when anything fails, nothing of it is left.  See ``SpaceHost``."""
        check_name(name)
        check_room(spec)
        chosen = self._catalogue.choose(engine)
        await self._refresh()
        if self._catalogue.find(name) is not None or name in self._reserved:
            raise Conflict(f"there is a space named {name} already", field="name", remedy="choose another name")
        self._reserved.add(name)
        try:
            adopt = await self._adoptable(chosen, name, owner) if adopt_volume else None
            record = SpaceRecord(secrets.token_hex(6), name, owner, spec, datetime.now(UTC), ephemeral)
            await self._make(chosen, record, adopt)
        finally:
            self._reserved.discard(name)
        self._activity[record.id] = datetime.now(UTC)
        return await self.get(name)

    async def list(self) -> Sequence[Space]:
        """Return every space, by name."""
        await self._refresh()
        return [self._dated(space) for space in self._catalogue.spaces]

    async def get(self, name: str) -> Space:
        """Return one space.  Raises NotFound."""
        await self._refresh()
        return self._dated(self._catalogue.get(name))

    async def start(self, name: str) -> Space:
        """Wake a paused space or start a stopped one, and wait until its agent answers."""
        async with self._exclusive(name) as space:
            await self._awaken(space)
        return await self.get(name)

    async def pause(self, name: str) -> Space:
        """Put a running space to sleep, its memory kept; a stopped one stays stopped."""
        async with self._exclusive(name) as space:
            if TRANSITIONS["pause"][space.state] is not space.state:
                link = self._links.get(space.id)
                if link is not None:
                    link.sleep()
                await self._catalogue.engine_of(space).pause(space.id)
                self._catalogue.note(space, SpaceState.PAUSED)
        return await self.get(name)

    async def stop(self, name: str) -> Space:
        """End the processes of a space, its files kept."""
        async with self._exclusive(name) as space:
            await self._hang_up(space.id, "the space was stopped")
            await self._catalogue.engine_of(space).stop(space.id)
            self._catalogue.note(space, SpaceState.STOPPED)
        return await self.get(name)

    async def destroy(self, name: str, *, remove_volume: bool = False) -> None:
        """Remove a space; its files are kept unless told otherwise.  Raises NotFound."""
        async with self._exclusive(name) as space:
            await self._hang_up(space.id, "the space was destroyed")
            await self._catalogue.engine_of(space).destroy(space.id, remove_files=remove_volume)
            self._activity.pop(space.id, None)
            self._meter.forget(space.id)
            self._catalogue.forget(name)
        self._locks.pop(name, None)

    async def exec(self, name: str, request: ExecRequest) -> ExecResult:
        """Run a command to its end, waking the space if it sleeps."""
        process = await self._run(name, request, stdin=bool(request.stdin))
        result = await process.collect(request.stdin)
        self._touch(name)
        return result

    async def open_exec(self, name: str, request: ExecRequest) -> SpaceProcess:
        """Run a command and follow it while it runs; it reads ``request.stdin`` and what is written after."""
        process = await self._run(name, request, stdin=True)
        if request.stdin:
            await process.write(request.stdin)
        return process

    async def attach(self, name: str, process_id: str) -> SpaceProcess:
        """Follow a command that was started before, waking the space.  Raises NotFound."""
        link = await self.link(name)
        space = self._catalogue.get(name)
        return await attach_process(link, process_id, lambda: self._relink(space.id))

    async def commands(self, name: str) -> Sequence[RunningCommand]:
        """Return the commands of a space, oldest first; a stopped one has none.  Raises Conflict for a paused one."""
        link = await self.observe(name)
        if link is not None:
            try:
                async with asyncio.timeout(LOOK):
                    return running_commands(await link.call("processes"))
            except TimeoutError:
                raise TimedOut(f"{name} did not answer in {LOOK:g} seconds", remedy="try again") from None
        if self._catalogue.get(name).state is SpaceState.PAUSED:
            raise Conflict(f"{name} sleeps, its commands with it", remedy=f"clawdspace start {name}")
        return []

    async def signal(self, name: str, process_id: str, number: int) -> None:
        """Signal a command's process group, waking the space.  Raises NotFound."""
        link = await self.link(name)
        try:
            await link.call("signal", {"id": process_id, "signal": number})
        except Refused as error:
            raise explained(error) from None

    async def link(self, name: str) -> Link:
        """Return the connected link of a space, waking the space if it sleeps.  Raises NotFound, Unavailable."""
        self._touch(name)
        space = self._catalogue.find(name)
        if space is not None and space.state is SpaceState.RUNNING:
            link = self._links.get(space.id)
            if link is not None and link.alive:
                return link
        async with self._exclusive(name) as space:
            return await self._awaken(space)

    async def usage(self, name: str) -> Usage:
        """Return the counters of a running or paused space.  Raises NotFound, Conflict for a stopped one."""
        space = await self.get(name)
        if space.state is SpaceState.STOPPED:
            raise Conflict(f"{name} is stopped: it uses nothing but its files", remedy=f"clawdspace start {name}")
        return await self._catalogue.engine_of(space).usage(space.id)

    async def stats(self, name: str) -> Stats:
        """Return what a space uses now; a stopped one uses nothing.  Never wakes it."""
        space = await self.get(name)
        if space.state is SpaceState.STOPPED:
            self._meter.forget(space.id)
            return Stats(Usage(0.0, 0, space.record.spec.memory, 0))
        engine = self._catalogue.engine_of(space)
        return await self._meter.stats(space.id, lambda: engine.usage(space.id))

    async def observe(self, name: str) -> Link | None:
        """Return the connected link of a space that runs, None of one that does not.  Never wakes it."""
        space = await self.get(name)
        if space.state is not SpaceState.RUNNING:
            return None
        link = self._link_of(self._catalogue.engine_of(space), space.record)
        await self._connect(link, space.record)
        return link

    def environment(self, space: Space) -> Mapping[str, str]:
        """Return the variables of everything that runs in a space: how to reach the network, and its own."""
        gateway = self._gateway_of(space.record)
        return {**(gateway.environment if gateway is not None else {}), **space.record.spec.env}

    async def death(self, name: str) -> Death | None:
        """Say why the main process of a stopped space ended, if its engine knows."""
        space = await self.get(name)
        return await self._catalogue.engine_of(space).death(space.id)

    async def kept(self) -> Sequence[KeptVolume]:
        """Return the files that outlived their space, oldest first."""
        found = [volume for engine in self.engines for volume in await engine.kept()]
        return sorted(found, key=lambda volume: volume.created)

    async def remove_kept(self, space_id: str) -> None:
        """Remove kept files.  Raises NotFound."""
        for engine in self.engines:
            if any(volume.id == space_id for volume in await engine.kept()):
                await engine.remove_kept(space_id)
                return
        raise NotFound(f"no kept files have the id {space_id}", remedy="`clawdspace volumes` lists them")

    @property
    def in_flight(self) -> int:
        """How many flows are open over all spaces."""
        return sum(link.flows for link in self._links.values())

    @property
    def reconnects(self) -> int:
        """How often links to spaces broke and were made again."""
        return self._past_reconnects + sum(link.reconnects for link in self._links.values())

    # -- making ------------------------------------------------------------------------------------------------------

    async def _adoptable(self, engine: Engine, name: str, owner: str) -> str:
        found = [volume for volume in await engine.kept() if volume.name == name and volume.owner == owner]
        if not found:
            raise NotFound(
                f"no files were kept of a space named {name}",
                field="adoptVolume",
                remedy="`clawdspace volumes` lists kept files",
            )
        return max(found, key=lambda volume: volume.created).id

    async def _make(self, engine: Engine, record: SpaceRecord, adopt: str | None) -> None:
        self._starting.add(record.id)
        try:
            await engine.prepare(record.id, record.spec, adopt=adopt)
            await engine.claim(record)
            await engine.start(record.id)
            await self._connect(self._link_of(engine, record), record)
        except (SpaceError, asyncio.CancelledError) as failure:
            await self._hang_up(record.id, "creating it failed")
            await asyncio.shield(engine.destroy(record.id, remove_files=adopt is None))
            if isinstance(failure, Unavailable):
                failure.remedy = failure.remedy or "look at `clawdspace daemon logs`"
            raise
        finally:
            self._catalogue.expire()
            await self._refresh()
            self._starting.discard(record.id)

    # -- state -------------------------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Know what exists, and hang up on what does not run any more."""
        await self._catalogue.refresh()
        running = {space.id for space in self._catalogue.spaces if space.state is not SpaceState.STOPPED}
        for space_id in set(self._links) - running - self._starting:
            await self._hang_up(space_id, "the space does not run any more")

    async def _keep_in_step(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE)
            self._catalogue.expire()
            await self._refresh()

    @asynccontextmanager
    async def _exclusive(self, name: str) -> AsyncIterator[Space]:
        """Hold a space for one verb; what it is is read once it is held."""
        await self._refresh()
        self._catalogue.get(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            yield self._catalogue.get(name)

    def _touch(self, name: str) -> None:
        space = self._catalogue.find(name)
        if space is not None:
            self._activity[space.id] = datetime.now(UTC)

    def _dated(self, space: Space) -> Space:
        return replace(space, last_activity=self._activity.get(space.id, space.started or space.record.created))

    # -- links -------------------------------------------------------------------------------------------------------

    async def _run(self, name: str, request: ExecRequest, *, stdin: bool) -> SpaceProcess:
        link = await self.link(name)
        space = self._catalogue.get(name)
        env = {**self.environment(space), **request.env}
        return await start_process(
            link, secrets.token_hex(6), replace(request, env=env), lambda: self._relink(space.id), stdin=stdin
        )

    async def _relink(self, space_id: str) -> Link:
        """Return a connected link to a space that still runs, never waking one that does not."""
        link = self._links.get(space_id)
        if link is None:
            raise Unavailable("the space does not run any more")
        await link.connect()
        return link

    def _link_of(self, engine: Engine, record: SpaceRecord) -> Link:
        if record.id not in self._links:
            gateway = self._gateway_of(record)
            on_flow = gateway.outlet(record.name).serve if gateway is not None else None
            self._links[record.id] = Link(lambda: engine.dial(record.id), record.name, on_flow)
        return self._links[record.id]

    async def _connect(self, link: Link, record: SpaceRecord) -> None:
        """Connect a link; over a new one, the agent learns that its space has a network."""
        connected = link.alive
        await link.connect()
        gateway = self._gateway_of(record)
        if gateway is not None and not connected:
            await gateway.open(link)

    def _gateway_of(self, record: SpaceRecord) -> Gateway | None:
        return self._gateway if record.spec.network is Network.INTERNET else None

    async def _awaken(self, space: Space) -> Link:
        engine = self._catalogue.engine_of(space)
        self._starting.add(space.id)
        try:
            link = self._link_of(engine, space.record)
            if space.state is SpaceState.PAUSED:
                await engine.resume(space.id)
            elif space.state is SpaceState.STOPPED:
                await engine.start(space.id)
            link.wake()
            await self._connect(link, space.record)
            if space.state is not SpaceState.RUNNING:
                self._catalogue.note(space, SpaceState.RUNNING)
        finally:
            self._starting.discard(space.id)
        return link

    async def _hang_up(self, space_id: str, reason: str) -> None:
        link = self._links.pop(space_id, None)
        if link is not None:
            self._past_reconnects += link.reconnects
            await link.close(reason)


async def _remove_orphans(engine: Engine) -> None:
    try:
        for space_id in await engine.orphans():
            log.info("removing %s, which was never finished", space_id)
            await engine.destroy(space_id, remove_files=False)
    except SpaceError as error:
        log.warning("%s: %s", engine.name, error)
