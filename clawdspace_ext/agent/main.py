"""The agent: the space's main process, its services, and the session with the daemon."""

from __future__ import annotations

import json
import os
import signal
import sys

from . import egress, files, kernels, listener
from .flow import Flow, Handler
from .hardening import shield
from .hello import common_version, hello_frame
from .loop import Loop
from .mux import Mux
from .processes import Processes
from .protocol import LinkError
from .services import Refuse
from .sockets import Connection
from .spawn import OomScore, spawn
from .transport import Transport

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List

    from .loop import Timer

PATIENCE = 60.0
TERM_GRACE = 2.0


class Agent:
    """Everything one space's agent holds.  ``workspace`` is what relative paths start from."""

    def __init__(self, workspace: str, oom_score: OomScore) -> None:
        self.loop = Loop()
        self._oom_score = oom_score
        self.workspace = workspace
        self.processes = Processes(self)
        self.kernels = kernels.Kernels(self)
        self._children: Dict[int, Callable[[int], None]] = {}
        self._mux = Mux("", initiator=False)
        self._transport: Transport | None = None
        self._patience: Timer | None = None
        self._flow_kinds: Dict[str, Callable[[Flow, Dict[str, Any]], object]] = {
            "exec": self.processes.run,
            "attach": self.processes.follow,
            "read": lambda flow, args: files.Reader(self, flow, args),
            "write": lambda flow, args: files.Writer(self, flow, args),
            "connect": lambda flow, args: Connection(self, flow, args),
            "call": self._call,
            **self.kernels.flow_kinds,
        }
        self._calls: Dict[str, Callable[[Dict[str, Any]], Any]] = {
            "processes": self.processes.list,
            "signal": self.processes.signal,
            "list": lambda args: files.list_dir(self, args),
            "stat": lambda args: files.stat_path(self, args),
            "mkdir": lambda args: files.mkdir(self, args),
            "move": lambda args: files.move(self, args),
            "delete": lambda args: files.delete(self, args),
            "observe": self._observe,
            **self.kernels.calls,
            **egress.Egress(self).calls,
        }

    # -- children ----------------------------------------------------------------------------------------------------

    def spawn(self, argv: List[str], env: Dict[str, str], cwd: str, fds: List[int], tty: bool = False) -> int:
        """Start a program in a session of its own; see ``spawn.spawn``."""
        with self._oom_score:
            return spawn(argv, env, cwd, fds, tty)

    def on_exit(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call back with the wait status of a child when it has ended."""
        self._children[pid] = callback

    def reap(self) -> None:
        """Collect every child that has ended, adopted orphans included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            callback = self._children.pop(pid, None)
            if callback is not None:
                callback(status)

    def terminate(self) -> None:
        """Ask everything in the space to end, insist after a grace time, and leave."""
        self._kill_all(signal.SIGTERM)
        self.loop.later(TERM_GRACE, self._leave)
        self._leave_when_alone()

    def _leave_when_alone(self) -> None:
        if self._children:
            self.loop.later(0.05, self._leave_when_alone)
        else:
            self._leave()

    def _leave(self) -> None:
        self._kill_all(signal.SIGKILL)
        self.loop.running = False

    def _kill_all(self, number: int) -> None:
        targets = [-1] if os.getpid() == 1 else [-pid for pid in self._children]
        for target in targets:
            try:
                os.kill(target, number)
            except ProcessLookupError:
                pass

    # -- the session -------------------------------------------------------------------------------------------------

    def connected(self, read_fd: int, write_fd: int, guard: int) -> None:
        """Meet a transport; its hello decides what it may carry on."""
        Transport(self.loop, read_fd, write_fd, self._hello, self._disconnected, guard)

    def _hello(self, transport: Transport, fields: Dict[str, Any]) -> None:
        session = str(fields.get("session", ""))
        if common_version(fields) is None or not session:
            transport.refuse(hello_frame({"session": "", "received": 0}))
            return
        if self._transport is not None:
            self._transport.close()
        resumed = session == self._mux.session
        if not resumed:
            self._mux.lose("another daemon took over")
            self._mux = Mux(session, initiator=False)
            self._mux.on_open = self._opened  # type: ignore[method-assign]  # the mux calls whoever serves flows
        received = fields.get("received")
        if not isinstance(received, int):
            raise LinkError("a hello without a count")
        if self._patience is not None:
            self._patience.cancel()
        self._transport = transport
        reply = hello_frame({"session": session, "received": self._mux.received, "resumed": resumed})
        transport.accept(reply, self._mux, received)

    def _disconnected(self, transport: Transport) -> None:
        if transport is self._transport:
            self._transport = None
            self._patience = self.loop.later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        """Nobody came back: let processes run on unfollowed instead of blocking them."""
        self._mux.lose("the daemon did not come back")
        self._mux = Mux("", initiator=False)

    def open_flow(self, kind: str, args: Dict[str, Any], handler: Handler) -> Flow:
        """Open a flow to the daemon.  Raises ValueError when too many are open."""
        return self._mux.open(kind, args, handler)

    def _opened(self, flow: Flow, kind: str, args: Dict[str, Any]) -> None:
        service = self._flow_kinds.get(kind)
        try:
            if service is None:
                raise Refuse("unsupported", "this agent knows no flows of kind %s" % kind)
            service(flow, args)
        except Refuse as reason:
            flow.handler = Handler()
            flow.reset(reason.code, reason.text)
        except OSError as error:  # descriptors or memory ran out: this flow fails, the space lives
            flow.handler = Handler()
            flow.reset("failed", str(error))

    def _observe(self, _args: Dict[str, Any]) -> Dict[str, Any]:
        from .observe import observe  # most spaces are never watched

        return observe(self)

    def _call(self, flow: Flow, args: Dict[str, Any]) -> None:
        call = self._calls.get(str(args.get("op")))
        if call is None:
            raise Refuse("unsupported", "this agent knows no call %s" % args.get("op"))
        flow.write(json.dumps(call(args), separators=(",", ":")).encode())
        flow.end()


def main() -> None:
    """Run as ``--listen-fd N`` or ``--listen-abstract NAME --peer-uid UID``, optionally ``--workspace DIR``."""
    oom_score = OomScore()
    shield()
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    agent = Agent(options.get("--workspace", "/workspace"), oom_score)
    _watch_signals(agent)
    if "--listen-fd" in options:
        listener.listen_inherited(agent.loop, int(options["--listen-fd"]), agent.connected)
    else:
        name, uid = options["--listen-abstract"], int(options["--peer-uid"])
        listener.listen_abstract(agent.loop, name, uid, agent.connected)
    agent.loop.run()


def _watch_signals(agent: Agent) -> None:
    """Turn signals into events of the loop; SIGHUP and SIGINT mean nothing to a space's main process."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

    def arrived() -> None:
        if signal.SIGTERM in os.read(read_fd, 4096):
            agent.terminate()
        agent.reap()

    agent.loop.read(read_fd, arrived)
