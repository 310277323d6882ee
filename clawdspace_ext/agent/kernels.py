"""Kernels of the space: ZeroMQ ends here, and what they say outlives the link.

A kernel's messages are numbered and spooled until the daemon has them.  While the spool is full the kernel's output is
not read: the kernel waits, and nothing is dropped.  Replies have a reserve, so that they pass when output does not.
"""

from __future__ import annotations

import json
import os
import signal

from .flow import Flow, Handler
from .frames import Framer, ZmtpError
from .kernel_process import EVENT, IOPUB, KernelProcess
from .services import Refuse, number_of, text_of
from .spool import Spool

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

    from .main import Agent

SPOOL = 16 * 1024 * 1024
RESERVE = 8 * 1024 * 1024
MAX_PENDING = 1024 * 1024
MAX_KERNELS = 64


class Kernel(Handler):
    """A kernel across its restarts; it is the handler of the flow that follows it."""

    def __init__(self, agent: Agent, kernel_id: str) -> None:
        self.id = kernel_id
        self.process: Optional[KernelProcess] = None
        self._agent = agent
        self._spool = Spool()
        self._flow: Optional[Flow] = None
        self._requests = Framer()
        self._owed = 0

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.process is not None and self.process.running

    def start(self, argv: List[str], env: Dict[str, str], cwd: str, key: str) -> Dict[str, Any]:
        """Start a process, the first or one that takes the place of one that ended; tell what the daemon must know."""
        folder = "/tmp/clawdspace-kernel-%s-%s" % (self.id, os.urandom(4).hex())
        process = KernelProcess(self._agent, folder, self._said, self._settle, self._ended, self._is_overfull)
        process.start(argv, env, cwd, key)
        self.process = process
        self._regulate()
        return {"pid": process.pid, "last": self._spool.last}

    def forget(self) -> None:
        """End it, with nobody listening any more."""
        self.follow(None, 0)
        if self.process is not None:
            self.process.signal(signal.SIGKILL)

    # -- what it says ------------------------------------------------------------------------------------------------

    def _said(self, channel: int, parts: List[bytes]) -> None:
        self._spool.add(channel, parts)
        self._regulate()

    def _ended(self, event: Dict[str, Any]) -> None:
        self._spool.add(EVENT, [json.dumps(event).encode()])
        self._settle()

    def _is_overfull(self) -> bool:
        return self._spool.size >= SPOOL + RESERVE

    def _regulate(self) -> None:
        """Read only what the spool has room for."""
        if self.process is None:
            return
        for number, channel in self.process.channels.items():
            channel.read(self._spool.size < (SPOOL if number == IOPUB else SPOOL + RESERVE))

    # -- the flow ----------------------------------------------------------------------------------------------------

    def follow(self, flow: Optional[Flow], received: int) -> None:
        """Let a new flow follow, which has the messages up to ``received``; whoever followed before is let go."""
        if self._flow is not None:
            self._flow.reset("taken", "somebody else follows this kernel now")
        self._flow = flow
        self._requests = Framer()
        self._owed = 0
        self._spool.follow(flow)
        if flow is not None:
            flow.handler = self
            self._spool.discard(received)
            flow.message({"running": self.running, "pid": self.process.pid if self.process else 0})
            self.on_drain()

    def on_data(self, channel: int, data: bytes) -> None:
        """Requests for the kernel."""
        self._owed += len(data)
        try:
            requests = self._requests.receive(data)
        except ZmtpError as error:
            if self._flow is not None:
                self._flow.reset("invalid", str(error))
            self.on_reset("", "")
            return
        for number, *parts in requests:
            if self.process is not None and parts:
                self.process.send(number[0] if number else EVENT, parts)
        self._settle()

    def _settle(self) -> None:
        """Hand credit back unless the kernel leaves too many requests waiting."""
        if self._flow is not None and (self.process is None or self.process.pending < MAX_PENDING):
            owed, self._owed = self._owed, 0
            if owed:
                self._flow.consumed(owed)

    def on_message(self, message: Dict[str, Any]) -> None:
        """The daemon has the messages up to ``ack``."""
        number = message.get("ack")
        if isinstance(number, int):
            self._spool.acknowledge(number)
            self._regulate()

    def on_drain(self) -> None:
        """There is room to send."""
        self._spool.pump()
        self._regulate()

    def on_reset(self, code: str, text: str) -> None:
        """Nobody follows any more; the kernel goes on."""
        self._flow = None
        self._spool.follow(None)


class Kernels:
    """Every kernel of the space, by id."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._all: Dict[str, Kernel] = {}
        self.flow_kinds = {"kernel.attach": self.attach}
        self.calls = {
            "kernel.start": self.start,
            "kernel.signal": self.signal,
            "kernel.forget": self.forget,
            "kernel.list": self.list,
        }

    def start(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Start a kernel, or a new process for one whose process has ended."""
        kernel_id = text_of(args, "id")
        if not kernel_id.isalnum() or len(kernel_id) > 32:
            raise Refuse("invalid", "a kernel's id is made of letters and digits")
        kernel = self._all.get(kernel_id) or Kernel(self._agent, kernel_id)
        if kernel.running:
            raise Refuse("exists", "this kernel runs already")
        if kernel_id not in self._all and len(self._all) >= MAX_KERNELS:
            raise Refuse("busy", "%d kernels run in this space already" % len(self._all))
        argv, env = args.get("argv"), args.get("env") or {}
        if not isinstance(argv, list) or not argv or not isinstance(env, dict):
            raise Refuse("invalid", "argv must be a list of texts, and env map names to texts")
        if not all(isinstance(text, str) and "\0" not in text for text in (*argv, *env, *env.values())):
            raise Refuse("invalid", "argv and env must hold texts without NUL characters")
        started = kernel.start(argv, env, text_of(args, "cwd", self._agent.workspace), text_of(args, "key"))
        self._all[kernel_id] = kernel
        return started

    def attach(self, flow: Flow, args: Dict[str, Any]) -> None:
        """Serve a flow of kind ``kernel.attach``."""
        self._get(args).follow(flow, number_of(args, "received"))

    def signal(self, args: Dict[str, Any]) -> None:
        """Signal a kernel's process."""
        process = self._get(args).process
        number = number_of(args, "signal")
        if process is not None and 0 < number < signal.NSIG:
            process.signal(number)

    def forget(self, args: Dict[str, Any]) -> None:
        """End a kernel and forget it; one that is not there is no error."""
        kernel = self._all.pop(text_of(args, "id"), None)
        if kernel is not None:
            kernel.forget()

    def list(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """Tell which kernels there are."""
        return [{"id": kernel.id, "running": kernel.running} for kernel in self._all.values()]

    def _get(self, args: Dict[str, Any]) -> Kernel:
        kernel = self._all.get(text_of(args, "id"))
        if kernel is None:
            raise Refuse("not_found", "there is no such kernel in this space")
        return kernel
