"""The daemon: the one process of a user that owns spaces' links, kernels' endpoints and timers.

Run as ``python -m clawdspace_ext.daemon``; whoever needs it starts it (``daemon_process.ensure_daemon``).  It may be
killed at any moment: spaces and what runs in them go on, and the next daemon finds them again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from tornado.httpserver import HTTPServer

from clawdspace_kernels.specs import KernelSpecs

from . import daemon_log, paths
from .daemon_activity import Activity
from .daemon_journal import Journal
from .daemon_lock import DaemonLock, listen
from .egress import Gateway
from .engine_choice import EngineChoice, finders
from .errors import InvalidRequest
from .follower import Follower
from .handlers import metrics
from .handlers.daemon import daemon_routes
from .handlers.kernels import routes_of
from .handlers.local import local_server
from .handlers.routes import ROUTES, SOCKETS
from .metrics import Metrics
from .relay import Kernels
from .service import Spaces
from .version import __version__

log = logging.getLogger("clawdspace_ext.daemon")  # not "__main__"

#: Seconds without a running space, a kernel or a request after which a daemon leaves, unless the environment says
#: otherwise in CLAWDSPACE_DAEMON_IDLE_S.
IDLE_EXIT = 600.0
#: Seconds between two looks at whether to stay.
TICK = 2.0
#: Seconds that letting go of links and kernels may take; they are made to be lost at any moment.
CLOSE_TIMEOUT = 3.0


class Daemon:
    """Puts the parts together, and serves until told to leave or until nobody needs it."""

    def __init__(self, data_dir: Path, runtime_dir: Path) -> None:
        install = install_id(data_dir)
        self._spaces = Spaces([], _gateway())
        self._kernels = Kernels(self._spaces, data_dir, runtime_dir)
        self._specs = KernelSpecs(Path(jupyter_data_dir()), install)
        self._specs_follower = Follower("kernel specs", self._sync_specs)
        self._engines = EngineChoice(self._spaces, finders(install, data_dir))
        self._activity = Activity(self._spaces)
        self._metrics = Metrics(self._spaces)
        self._journal = Journal(self._spaces)
        self._journal_follower = Follower("journal", self._journal.look)
        self._leaving = asyncio.Event()
        self._idle_exit = float(os.environ.get("CLAWDSPACE_DAEMON_IDLE_S") or IDLE_EXIT)

    @property
    def in_flight(self) -> int:
        """How many requests, commands and kernels there are."""
        return self._activity.in_flight

    def facts(self) -> dict[str, object]:
        """Return what ``GET /api/daemon`` says."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "inFlight": self.in_flight,
            "engines": [engine.name for engine in self._spaces.engines],
            "missing": self._engines.reasons,
        }

    def leave(self) -> None:
        """Leave once the answer under way is out."""
        asyncio.get_running_loop().call_later(0.05, self._leaving.set)

    async def run(self, lock: DaemonLock, address: Path) -> None:
        """Serve at ``address`` until it is time to leave."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leaving.set)
        await self._engines.look()
        await self._spaces.begin()
        await self._kernels.recover()
        server = self._server()
        listener = listen(address)
        bound = _inode(address)
        server.add_socket(listener)
        log.info("daemon %s, process %d, listens on %s", __version__, os.getpid(), address)
        lock.record(address)
        _tell_ready()
        chores = self._begin_chores(address, bound)
        await self._leaving.wait()
        log.info("leaving; spaces go on")
        for chore in chores:
            chore.cancel()
        server.stop()
        _remove(address)
        await self._close()

    def _server(self) -> HTTPServer:
        table = (*ROUTES, *routes_of(self._kernels), *metrics.routes_of(self._metrics))
        routes = [self._activity.counted(self._metrics.measured(self._journal.logged(route))) for route in table]
        sockets = [self._activity.counted_socket(self._metrics.measured_socket(route)) for route in SOCKETS]
        return local_server(self._spaces, [*routes, *daemon_routes(self)], sockets)

    def _begin_chores(self, address: Path, bound: int | None) -> list[asyncio.Task[None]]:
        self._spaces.on_change(self._specs_follower.poke)
        self._spaces.on_change(self._journal_follower.poke)
        self._specs_follower.poke()
        self._journal_follower.poke()
        followers = (self._specs_follower.run(), self._journal_follower.run())
        work = (self._engines.keep_looking(), *followers, self._watch(address, bound))
        return [asyncio.create_task(chore) for chore in work]

    async def _sync_specs(self) -> None:
        """Give every space that has a name people know its kernel spec."""
        names = [space.name for space in await self._spaces.list() if not space.record.ephemeral]
        await asyncio.to_thread(self._specs.sync, names)

    async def _watch(self, address: Path, bound: int | None) -> None:
        """Leave when nobody needs this daemon, or nobody can reach it because its socket was removed."""
        while True:
            await asyncio.sleep(TICK)
            if _inode(address) != bound:
                log.warning("%s is gone", address)
                break
            if self._activity.quiet_for > self._idle_exit and not await self._activity.busy():
                log.info("nothing ran for %.0f s", self._idle_exit)
                break
        self._leaving.set()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._kernels.close()
                await self._spaces.close()
        except TimeoutError:
            log.warning("letting go took too long")


def install_id(data_dir: Path) -> str:
    """Return the random name of this installation, by which engines tell its spaces from those of others."""
    path = data_dir / "install-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fresh = secrets.token_hex(8)
        new = path.with_suffix(".new")
        new.write_text(fresh)
        new.chmod(0o600)
        new.replace(path)
        return fresh


def _gateway() -> Gateway | None:
    """Return the way out of spaces; settings that make no sense open none, and cost nothing else."""
    try:
        return Gateway.from_environment(os.environ)
    except InvalidRequest as error:
        log.warning("spaces stay without a network: %s", error)
        return None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def main() -> None:
    """Be the daemon, unless there is one."""
    if "--detach" in sys.argv[1:]:
        _detach()
    daemon_log.configure(paths.log_path())
    lock = DaemonLock(paths.lock_path())
    if not lock.acquire():
        log.info("another daemon is there")
        _tell_ready()
        return
    os.umask(0o022)
    asyncio.run(_serve(lock))
    lock.release()


async def _serve(lock: DaemonLock) -> None:
    await Daemon(paths.data_dir(), paths.runtime_dir()).run(lock, paths.socket_path())


def _detach() -> None:
    """Go on as a child of init, so that whoever started the daemon need not wait for it."""
    if os.fork():
        os._exit(0)
    os.setsid()


def _tell_ready() -> None:
    """Tell whoever started the daemon: on stdout, which from now on is the log, and as systemd wants to be told."""
    os.write(1, b"ready\n")
    os.dup2(2, 1)
    if address := os.environ.pop("NOTIFY_SOCKET", ""):  # systemd's; "@" stands for the NUL of an abstract address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto(b"READY=1", address.replace("@", "\0", 1) if address.startswith("@") else address)


if __name__ == "__main__":
    main()
