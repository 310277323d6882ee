"""Files of the space: listed, read and written as the space's own user sees them.

Paths are absolute, or relative to the workspace.  With the argument ``within``, a folder, a path that leads out of that
folder, by symbolic links too, is refused with the code ``outside``.  A file is written beside its place and renamed
into it, so that a reader sees the old or the new one, never a part.
"""

from __future__ import annotations

import errno
import os
import stat

from .flow import Flow, Handler
from .services import Refuse, number_of, refusal, text_of

MYPY = False
if MYPY:
    from typing import Any, Dict, List

    from .main import Agent

READ_SIZE = 128 * 1024
MAX_ENTRIES = 100_000
#: Bytes after which what was written is made to last: doing it at the end alone would stop the agent for long.
SYNC_SIZE = 32 * 1024 * 1024


def path_of(agent: Agent, args: Dict[str, Any], name: str = "path", follow: bool = True) -> str:
    """Return the path an argument names; without ``follow`` a link at its end is meant itself.

    Raises Refuse when it is outside ``within``.
    """
    given = os.path.join(agent.workspace, text_of(args, name))
    path = os.path.normpath(given)
    if "within" not in args:
        return path
    root = os.path.realpath(os.path.join(agent.workspace, text_of(args, "within")))
    folder, last = os.path.split(path)
    real = os.path.realpath(given) if follow else os.path.join(os.path.realpath(folder), last)
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise Refuse("outside", "%s leads out of %s" % (text_of(args, name), args["within"]))
    return real


def describe(path: str, info: os.stat_result) -> Dict[str, Any]:
    """Return name, path, type, size and time of a directory entry."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
    return {
        "name": os.path.basename(path),
        "path": path,
        "type": kinds.get(stat.S_IFMT(info.st_mode), "other"),
        "size": info.st_size,
        "mtimeMs": info.st_mtime_ns // 1_000_000,
        "mode": stat.S_IMODE(info.st_mode),
    }


def list_dir(agent: Agent, args: Dict[str, Any]) -> List[Dict[str, Any]]:
    """List a directory, sorted by name; at most MAX_ENTRIES."""
    path = path_of(agent, args)
    entries: List[Dict[str, Any]] = []
    try:
        with os.scandir(path) as found:
            for entry in found:
                if len(entries) >= MAX_ENTRIES:
                    raise Refuse("too_many", "%s holds more than %d entries" % (path, MAX_ENTRIES))
                try:
                    entries.append(describe(entry.path, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # removed while we looked
    except OSError as error:
        raise refusal(error, path) from None
    return sorted(entries, key=lambda entry: str(entry["name"]))


def stat_path(agent: Agent, args: Dict[str, Any]) -> Dict[str, Any]:
    """Describe one path; a symbolic link is followed."""
    path = path_of(agent, args)
    try:
        return describe(path, os.stat(path))
    except OSError as error:
        raise refusal(error, path) from None


def mkdir(agent: Agent, args: Dict[str, Any]) -> None:
    """Make a directory and the missing ones above it; one that is there is no error."""
    path = path_of(agent, args)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise refusal(error, path) from None


def move(agent: Agent, args: Dict[str, Any]) -> None:
    """Rename a path; refuses to replace something unless ``replace`` is true."""
    source, target = path_of(agent, args, follow=False), path_of(agent, args, "to", follow=False)
    if "within" in args and source == os.path.realpath(agent.workspace):
        raise Refuse("invalid", "the workspace itself cannot be moved")
    if not args.get("replace") and os.path.lexists(target):
        raise Refuse("exists", "%s: there is something of that name" % target)
    try:
        os.replace(source, target)
    except OSError as error:
        raise refusal(error, source) from None


def delete(agent: Agent, args: Dict[str, Any]) -> None:
    """Remove a file or link, or with ``recursive`` a directory and all in it."""
    path = path_of(agent, args, follow=False)
    if path in ("/", os.path.normpath(agent.workspace), os.path.realpath(agent.workspace)):
        raise Refuse("invalid", "%s cannot be removed" % path)
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            os.unlink(path)
        elif args.get("recursive"):
            remove_tree(path)
        else:
            os.rmdir(path)
    except OSError as error:
        raise refusal(error, path) from None


def remove_tree(path: str) -> None:
    """Remove a directory and all in it; links are removed, not followed.  Raises OSError."""
    # shutil would do it, and cost every space two megabytes for its archive formats.
    for folder, folders, names in os.walk(path, topdown=False):
        for name in names:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            inner = os.path.join(folder, name)
            if os.path.islink(inner):
                os.unlink(inner)
            else:
                os.rmdir(inner)
    os.rmdir(path)


class Reader(Handler):
    """Sends a regular file, or ``length`` bytes of it from ``offset``, as fast as the flow takes it."""

    def __init__(self, agent: Agent, flow: Flow, args: Dict[str, Any]) -> None:
        path = path_of(agent, args)
        offset = number_of(args, "offset")
        try:
            # Without O_NONBLOCK, opening a named pipe would stop the whole agent.
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise refusal(error, path) from None
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(self._fd)
            code = "is_directory" if stat.S_ISDIR(info.st_mode) else "invalid"
            raise Refuse(code, "%s: not a regular file" % path)
        os.lseek(self._fd, offset, os.SEEK_SET)
        self._left = number_of(args, "length", max(0, info.st_size - offset))
        self._flow = flow
        flow.handler = self
        flow.message(describe(path, info))
        self.on_drain()

    def on_drain(self) -> None:
        """Send on."""
        while self._left and self._flow.room > 0:
            try:
                data = os.read(self._fd, min(READ_SIZE, self._left))
            except OSError as error:
                self._flow.reset("failed", str(error))
                self.on_reset("failed", "")
                return
            if not data:
                self._left = 0
            self._left -= len(data)
            self._flow.write(data)
        if not self._left:
            self._flow.end()
            self.on_reset("done", "")

    def on_reset(self, code: str, text: str) -> None:
        """Nobody wants the rest."""
        self._flow.handler = Handler()
        os.close(self._fd)


class Writer(Handler):
    """Takes a file's new content; it is in place once the flow ends with the message ``{"size"}``.

    Then it also survives a power cut, unless ``sync`` is false.
    """

    def __init__(self, agent: Agent, flow: Flow, args: Dict[str, Any]) -> None:
        self._path = os.path.realpath(path_of(agent, args))
        folder, name = os.path.split(self._path)
        self._temporary = os.path.join(folder, ".%s.%s.part" % (name[:50], os.urandom(6).hex()))
        try:
            if os.path.isdir(self._path):
                raise IsADirectoryError(21, "is a directory")
            if os.path.exists(self._path) and not os.path.isfile(self._path):
                raise OSError(errno.EINVAL, "not a regular file")
            if args.get("parents", True):
                os.makedirs(folder, exist_ok=True)
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._keep_mode(args)
        except OSError as error:
            raise refusal(error, self._path) from None
        self._size = 0
        self._unsynced = 0
        self._sync = bool(args.get("sync", True))
        self._flow = flow
        flow.handler = self

    def _keep_mode(self, args: Dict[str, Any]) -> None:
        if "mode" in args:
            os.fchmod(self._fd, number_of(args, "mode") & 0o777)
        elif os.path.exists(self._path):
            os.fchmod(self._fd, stat.S_IMODE(os.stat(self._path).st_mode))

    def on_data(self, channel: int, data: bytes) -> None:
        """Write a piece."""
        view = data
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            self._unsynced += len(data)
            if self._sync and self._unsynced >= SYNC_SIZE:
                os.fdatasync(self._fd)
                self._unsynced = 0
        except OSError as error:
            self._fail(error)
            return
        self._size += len(data)
        self._flow.consumed(len(data))

    def on_end(self) -> None:
        """All is there: put it in place."""
        try:
            if self._sync:
                os.fsync(self._fd)
            os.rename(self._temporary, self._path)
        except OSError as error:
            self._fail(error)
            return
        os.close(self._fd)
        self._flow.handler = Handler()
        self._flow.message({"size": self._size})
        self._flow.end()

    def on_reset(self, code: str, text: str) -> None:
        """The sender gave up: leave no trace."""
        os.close(self._fd)
        try:
            os.unlink(self._temporary)
        except OSError:
            pass  # the space removed it itself

    def _fail(self, error: OSError) -> None:
        reason = refusal(error, self._path)
        self._flow.reset(reason.code, reason.text)
        self._flow.handler = Handler()
        self.on_reset(reason.code, reason.text)
