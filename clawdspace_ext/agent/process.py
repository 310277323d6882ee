"""A command in the space: run, followed, signalled, and found again by whoever comes later.

On a flow of kind ``exec`` or ``attach`` the follower sends stdin as data, and the messages ``{"eof"}`` and
``{"resize": [cols, rows]}``; signals come as calls, which unread stdin cannot hold up.  It gets
``{"started", "pid"}``, data on channel 1 (stdout) and 2 (stderr), and at last ``{"exit", "signal", "timedOut"}``, which
it confirms by ending the flow.

A process outlives the flow that started it.  While a flow follows it, its output is read no faster than the flow
takes it; with nobody there, output is read on and the last part of it is kept.  ``attach`` follows it again from the
offsets that are known on the other side.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
import time

from .flow import Flow, Handler
from .pipes import FdReader, FdWriter, Tail
from .protocol import WINDOW
from .services import Refuse, refusal, text_of
from .spawn import kill_session

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

    from .loop import Timer
    from .main import Agent

STDOUT, STDERR = 1, 2
TERMINATE_GRACE = 2.0
DRAIN_GRACE = 0.1
#: Bytes kept of each output of a command that was meant to be left alone.
DETACHED_TAIL = 1024 * 1024


class Output:
    """One output of a process: its descriptor, and the last part of what came."""

    def __init__(self, process: Process, channel: int, fd: int, keep: int) -> None:
        self.tail = Tail(keep)
        self._process = process
        self._channel = channel
        self.reader = FdReader(process.agent.loop, fd, self._data, process.output_ended)

    def _data(self, data: bytes) -> None:
        self.tail.add(data)
        flow = self._process.flow
        if flow is not None:
            flow.write(data, self._channel)
            if flow.room <= 0:
                self.reader.pause()


class Process(Handler):
    """A running or finished command; it is the handler of the flow that follows it."""

    def __init__(self, agent: Agent, process_id: str, argv: List[str]) -> None:
        self.agent = agent
        self.id = process_id
        self.argv = argv
        self.tty = False
        self.pid = 0
        self.started = time.time()
        self.flow: Optional[Flow] = None
        self.stdin: Optional[FdWriter] = None
        self.outputs: Dict[int, Output] = {}
        self.status: Optional[int] = None
        self.timed_out = False
        self.reported = False
        self._timer: Optional[Timer] = None

    # -- starting ----------------------------------------------------------------------------------------------------

    def run(self, flow: Flow, args: Dict[str, Any]) -> None:
        """Start the command and follow it on ``flow``."""
        size = args.get("tty")
        ours, theirs = self._terminal(size) if size else self._pipes(bool(args.get("stdin")))
        try:
            env = dict(os.environ, **_env_of(args))
            cwd = os.path.join(self.agent.workspace, text_of(args, "cwd", "."))
            self.pid = self.agent.spawn(self.argv, env, cwd, theirs, bool(size))
        except OSError as error:
            for fd in ours:
                if fd >= 0:
                    os.close(fd)
            raise refusal(error, str(error.filename)) from None
        finally:
            for fd in set(theirs):
                os.close(fd)
        self.flow = flow
        flow.handler = self
        self.tty = bool(size)
        if ours[0] >= 0:
            self.stdin = FdWriter(self.agent.loop, os.dup(ours[0]) if size else ours[0])
        for channel, fd in zip((STDOUT, STDERR), ours if size else ours[1:]):
            self.outputs[channel] = Output(self, channel, fd, DETACHED_TAIL if args.get("detach") else WINDOW)
        self.agent.on_exit(self.pid, self._exited)
        timeout = args.get("timeout")
        if isinstance(timeout, (int, float)) and timeout > 0:
            self._timer = self.agent.loop.later(timeout, self._time_over)
        flow.message({"started": self.id, "pid": self.pid})

    @staticmethod
    def _pipes(stdin: bool) -> tuple[List[int], List[int]]:
        in_r, in_w = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        return [in_w, out_r, err_r], [in_r, out_w, err_w]

    @staticmethod
    def _terminal(size: Any) -> tuple[List[int], List[int]]:
        master, slave = os.openpty()
        _resize(master, size)
        return [master], [slave, slave, slave]

    # -- the flow ----------------------------------------------------------------------------------------------------

    def follow(self, flow: Flow, offsets: Dict[int, int]) -> None:
        """Let a new flow follow, from the offsets it knows; whoever followed before is let go."""
        if self.flow is not None:
            self.flow.reset("taken", "somebody else follows this process now")
        self.flow = flow
        flow.handler = self
        kept = {}
        for channel, output in self.outputs.items():
            tail = output.tail.since(offsets.get(channel, 0))
            kept[channel] = (output.tail.total - len(tail), tail)
        flow.message({"started": self.id, "pid": self.pid, "from": {str(c): start for c, (start, _) in kept.items()}})
        for channel, (_, tail) in kept.items():
            flow.write(tail, channel)
        if self.reported:
            self._report()
        else:
            self.on_drain()

    def on_data(self, channel: int, data: bytes) -> None:
        """Bytes for stdin."""
        if self.flow is None:
            return
        if self.stdin is not None:
            self.stdin.write(self.flow, data)
        else:
            self.flow.consumed(len(data))

    def on_message(self, message: Dict[str, Any]) -> None:
        """The end of stdin (a terminal has Ctrl-D for that), or a new terminal size."""
        if "eof" in message and self.stdin is not None and not self.tty:
            self.stdin.finish()
        if "resize" in message and self._terminal_fd is not None:
            _resize(self._terminal_fd, message["resize"])

    def on_reset(self, code: str, text: str) -> None:
        """Nobody follows any more; the process goes on."""
        self.flow = None
        for output in self.outputs.values():
            output.reader.resume()

    def on_drain(self) -> None:
        """There is room: read on."""
        for output in self.outputs.values():
            output.reader.resume()

    # -- its life ----------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Signal its process group; at a terminal, the group in its foreground."""
        if self.status is not None or not 0 < number < signal.NSIG:
            return
        group = self.pid
        if self._terminal_fd is not None:
            try:
                group = os.tcgetpgrp(self._terminal_fd)
            except OSError:
                pass
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            pass

    @property
    def _terminal_fd(self) -> Optional[int]:
        return self.outputs[STDOUT].reader.fd if self.tty and self.outputs else None

    def output_ended(self) -> None:
        """One output is at its end."""
        self._finish_if_done()

    def _time_over(self) -> None:
        self.timed_out = True
        kill_session(self.pid, signal.SIGTERM)
        self._timer = self.agent.loop.later(TERMINATE_GRACE, lambda: kill_session(self.pid, signal.SIGKILL))

    def _exited(self, status: int) -> None:
        self.status = status
        if self.timed_out:
            kill_session(self.pid, signal.SIGKILL)
        if self._timer is not None:
            self._timer.cancel()
        self._finish_if_done()
        if not self.reported:
            # A child left in the background may hold the outputs open for ever: it is not waited for.
            self.agent.loop.later(DRAIN_GRACE, self._drained)

    def _drained(self) -> None:
        while any(output.reader.pump() for output in self.outputs.values() if self._may_read()):
            pass
        if self._may_read():
            self._report()
        else:
            self.agent.loop.later(DRAIN_GRACE, self._drained)

    def _may_read(self) -> bool:
        return self.flow is None or self.flow.room > 0

    def _finish_if_done(self) -> None:
        if self.status is not None and all(output.reader.fd is None for output in self.outputs.values()):
            self._report()

    def _report(self) -> None:
        self.reported = True
        if self.stdin is not None:
            self.stdin.close()
        if self.flow is None:
            return
        flow, self.flow = self.flow, None
        flow.handler = _Farewell(self)
        flow.message(dict(exit_of(self.status or 0), timedOut=self.timed_out))
        flow.end()


class _Farewell(Handler):
    """Forgets a process once the other side has taken note of its end."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def on_end(self) -> None:
        self._process.agent.processes.forget(self._process)


def exit_of(status: int) -> Dict[str, Any]:
    """Return the exit code and signal of a wait status; a signal's code is 128 + its number."""
    if os.WIFSIGNALED(status):
        return {"exit": 128 + os.WTERMSIG(status), "signal": os.WTERMSIG(status)}
    return {"exit": os.WEXITSTATUS(status), "signal": None}


def _env_of(args: Dict[str, Any]) -> Dict[str, str]:
    env = args.get("env") or {}
    if not isinstance(env, dict) or not all(isinstance(v, str) and "\0" not in k + v for k, v in env.items()):
        raise Refuse("invalid", "env must map names to texts")
    return env


def _resize(fd: int, size: Any) -> None:
    if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and 0 < n < 10000 for n in size):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
