"""One process of a kernel: started on sockets of its own, spoken to, and mourned."""

from __future__ import annotations

import json
import os
import signal

from .channels import Channel
from .files import remove_tree
from .pipes import FdReader, Tail
from .services import refusal
from .spawn import kill_session

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List

    from .main import Agent

#: The channels, by the numbers that the daemon uses and that their sockets' names end in.
EVENT, SHELL, IOPUB, STDIN, CONTROL, HEARTBEAT = 0, 1, 2, 3, 4, 5
#: In the order they are connected: output is subscribed to before the first request can cause any.
_SOCKETS = {IOPUB: "SUB", SHELL: "DEALER", STDIN: "DEALER", CONTROL: "DEALER"}

#: Shell and stdin must be one client to the kernel, or it would not know where to ask for input.
IDENTITY = b"clawdspace"
CONNECT_PAUSE = 0.01
MAX_CONNECT_PAUSE = 0.05
#: Kernels that welcome subscribers do so at once; others are taken to have subscribed after this time.
WELCOME_PATIENCE = 0.25
DRAIN_PAUSE = 0.05
LOG_TAIL = 4096
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class KernelProcess:
    """A running kernel.

    ``on_message(channel, parts)`` is called for what it says, ``on_drain`` when requests have gone out, and
    ``on_exit(event)`` once, after the last message, with how it ended.  ``is_full`` tells when to stop reading.
    """

    def __init__(
        self,
        agent: Agent,
        folder: str,
        on_message: Callable[[int, List[bytes]], None],
        on_drain: Callable[[], None],
        on_exit: Callable[[Dict[str, Any]], None],
        is_full: Callable[[], bool],
    ) -> None:
        self.pid = 0
        self.running = False
        self._silent = True
        self._pause = CONNECT_PAUSE
        self._agent = agent
        self._folder = folder
        self._on_exit = on_exit
        self._is_full = is_full
        self._on_message = on_message
        self._oom_kills = _oom_kills()
        self._log = Tail(LOG_TAIL)
        self._waiting = [(number, os.path.join(folder, "s-%d" % number)) for number in _SOCKETS]
        self.channels = {
            number: Channel(agent.loop, kind, IDENTITY, self._hears(number), on_drain)
            for number, kind in _SOCKETS.items()
        }

    def start(self, argv: List[str], env: Dict[str, str], cwd: str, key: str) -> None:
        """Start it; ``{connection_file}`` and ``{agent}`` in ``argv`` are filled in.  Raises Refuse."""
        try:
            connection_file = self._prepare_folder(key)
            places = {"{connection_file}": connection_file, "{agent}": os.path.dirname(os.path.abspath(__file__))}
            for place, value in places.items():
                argv = [part.replace(place, value) for part in argv]
            self._spawn(argv, env, cwd)
        except OSError as error:
            self._remove_folder()
            raise refusal(error, str(error.filename)) from None
        self.running = True
        self._agent.on_exit(self.pid, self._exited)
        self._connect()

    def _prepare_folder(self, key: str) -> str:
        os.mkdir(self._folder, 0o700)
        ports = {"shell": SHELL, "iopub": IOPUB, "stdin": STDIN, "control": CONTROL, "hb": HEARTBEAT}
        info: Dict[str, Any] = {"%s_port" % name: number for name, number in ports.items()}
        info.update(transport="ipc", ip=os.path.join(self._folder, "s"), key=key, signature_scheme="hmac-sha256")
        path = os.path.join(self._folder, "connection.json")
        with open(path, "x") as file:
            json.dump(info, file)
        return path

    def _spawn(self, argv: List[str], env: Dict[str, str], cwd: str) -> None:
        environment = dict(os.environ, **env)
        # With it, ipykernel would watch a parent that it does not have here, and leave.
        environment.pop("JPY_PARENT_PID", None)
        log_r, log_w = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            self.pid = self._agent.spawn(argv, environment, cwd, [null, null, log_w])
        except OSError:
            os.close(log_r)
            raise
        finally:
            os.close(log_w)
            os.close(null)
        self._log_reader = FdReader(self._agent.loop, log_r, self._log.add, lambda: None)

    # -- talking -----------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many bytes of requests wait."""
        return sum(channel.pending for channel in self.channels.values())

    def send(self, number: int, parts: List[bytes]) -> None:
        """Pass a request on, once the kernel listens."""
        if number in self.channels and number != IOPUB:
            self.channels[number].send(parts)

    def signal(self, number: int) -> None:
        """Signal its process group; SIGKILL goes to everything that it started."""
        if not self.running:
            return
        if number == signal.SIGKILL:
            kill_session(self.pid, number)
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # it has ended, and its end is on the way

    def _connect(self) -> None:
        while self.running and self._waiting:
            number, path = self._waiting[0]
            if not self.channels[number].connect(path):
                self._agent.loop.later(self._pause, self._connect)
                self._pause = min(self._pause * 1.2, MAX_CONNECT_PAUSE)
                return
            del self._waiting[0]
        if self.running:
            self._agent.loop.later(WELCOME_PATIENCE, self._subscribed)

    def _hears(self, number: int) -> Callable[[List[bytes]], None]:
        def hear(parts: List[bytes]) -> None:
            if self._silent and number == IOPUB:
                self._subscribed()
            self._on_message(number, parts)

        return hear

    def _subscribed(self) -> None:
        self._silent = False
        for channel in self.channels.values():
            channel.release()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _exited(self, status: int) -> None:
        self.running = False
        self._drain(status)

    def _drain(self, status: int) -> None:
        """Read what it said last, then tell of its end."""
        for channel in self.channels.values():
            while not self._is_full() and channel.pump():
                pass
        if self._is_full():
            self._agent.loop.later(DRAIN_PAUSE, lambda: self._drain(status))
            return
        for channel in self.channels.values():
            channel.close()
        while self._log_reader.pump():
            pass
        self._log_reader.close()
        self._remove_folder()
        self._on_exit(
            {
                "exited": self.pid,
                "status": status,
                "oom": _oom_kills() > self._oom_kills,
                "log": self._log.since(0).decode("utf-8", "replace"),
            }
        )

    def _remove_folder(self) -> None:
        try:
            remove_tree(self._folder)
        except OSError:
            pass  # the space removed it itself


def _oom_kills() -> int:
    """Return how many processes of the space were killed for want of memory, as far as its cgroup can be read."""
    for path in _OOM_COUNTERS:
        try:
            with open(path) as file:
                counters = dict(line.split() for line in file)
        except (OSError, ValueError):
            continue
        return int(counters.get("oom_kill", 0))
    return 0
