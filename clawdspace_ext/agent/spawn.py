"""Starting programs in the space: new session, own descriptors, an OOM score above the agent's."""

from __future__ import annotations

import errno
import os
import signal

MYPY = False
if MYPY:
    from typing import Any, Dict, List

OOM_RAISE = 300
_DEFAULTED = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def spawn(argv: List[str], env: Dict[str, str], cwd: str, fds: List[int], tty: bool = False) -> int:
    """Start a program with ``fds`` as its stdin, stdout and stderr; return its pid, which leads a session of its own.

    With ``tty``, fd 0 becomes its controlling terminal.  Raises OSError when it cannot be started; ``filename`` is the
    program or the working directory, whichever is at fault.
    """
    program = _find(argv[0], env, cwd)
    actions: List[Any] = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)]
    if tty:
        # The first terminal that the leader of a new session opens becomes its controlling one.
        actions.insert(0, (os.POSIX_SPAWN_OPEN, 0, os.ttyname(fds[0]), os.O_RDWR, 0))
    # posix_spawn knows no working directory; the agent has one thread and no use for its own.
    os.chdir(cwd)
    try:
        return os.posix_spawn(
            program, argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_DEFAULTED
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, argv[0]) from None
    finally:
        os.chdir("/")


def _find(name: str, env: Dict[str, str], cwd: str) -> str:
    """Look a program up as a shell does, on the PATH it will itself have.  Raises OSError."""
    if "/" in name:
        return name
    denied = False
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(cwd, folder, name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            denied = True
    number = errno.EACCES if denied else errno.ENOENT
    raise OSError(number, os.strerror(number), name)


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
