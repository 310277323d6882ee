"""Starting programs in the space: new session, own descriptors, an OOM score above the agent's."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import termios

MYPY = False
if MYPY:
    from typing import Dict, List, NoReturn

OOM_RAISE = 300
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def spawn(argv: List[str], env: Dict[str, str], cwd: str, fds: List[int], tty: bool = False) -> int:
    """Start a program with ``fds`` as its stdin, stdout and stderr; return its pid, which leads a session of its own.

    With ``tty``, fd 0 becomes its controlling terminal.  Raises OSError with the reason when it cannot be started;
    ``filename`` tells whether the program or the working directory is at fault.
    """
    failed_r, failed_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(argv, env, cwd, fds, tty, failed_w)
    os.close(failed_w)
    report = b""
    while True:
        piece = os.read(failed_r, 64)
        if not piece:
            break
        report += piece
    os.close(failed_r)
    if report:
        os.waitpid(pid, 0)
        number, _, part = report.decode().partition(" ")
        raise OSError(int(number), os.strerror(int(number)), cwd if part == "cwd" else argv[0])
    return pid


def _become(argv: List[str], env: Dict[str, str], cwd: str, fds: List[int], tty: bool, failed_w: int) -> NoReturn:
    part = "program"
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*_IGNORED_BY_PYTHON, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        # Copies above the standard three first, so that no dup2 overwrites a descriptor still needed.
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in fds]
        for target, fd in enumerate(copies):
            os.dup2(fd, target)
        if tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        part = "cwd"
        os.chdir(cwd)
        part = "program"
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(failed_w, b"%d %s" % (error.errno or errno.EIO, part.encode()))
    finally:
        os._exit(127)


class OomScore:
    """Lets what the agent starts be killed before the agent when memory runs out.

    A child inherits the score of the moment, so the agent raises its own around each start.  It keeps the file open,
    because ``hardening.shield`` takes away the right to open it: make this first.
    """

    def __init__(self) -> None:
        self._own = 0
        try:
            self._fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._own = int(os.read(self._fd, 16))
        except OSError:
            self._fd = -1  # without /proc there is no score; programs run all the same

    def __enter__(self) -> None:
        self._set(min(1000, self._own + OOM_RAISE))

    def __exit__(self, *_: object) -> None:
        self._set(self._own)

    def _set(self, score: int) -> None:
        if self._fd >= 0:
            os.pwrite(self._fd, b"%d" % score, 0)


def kill_session(leader: int, number: int) -> None:
    """Signal every process of the session that ``leader`` led, in whatever process group it is."""
    for pid in _session_members(leader):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _session_members(leader: int) -> List[int]:
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if len(fields) > 3 and int(fields[3]) == leader:
                members.append(int(name))
    return members
