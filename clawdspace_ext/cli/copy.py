"""``cp``: files to and from a space, piece by piece."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from ..errors import InvalidRequest, NotFound
from .output import note, printable

CHUNK = 256 * 1024
_REMOTE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,47}):(.*)", re.DOTALL)

Advance = Callable[[int], None]


class _Remote(NamedTuple):
    """A place in a space."""

    space: str
    path: str


@click.command(short_help="Copy files to or from a space.")
@click.argument("source")
@click.argument("target")
@click.option("-r", "--recursive", is_flag=True, help="Copy folders with all they hold.")
def cp(source: str, target: str, recursive: bool) -> None:
    """Copy SOURCE to TARGET, one of which is in a space: NAME:PATH, where / is /workspace.

    '-' is stdin or stdout.  A folder as TARGET gets a file of the same name.  A sleeping space is woken.

    \b
      clawdspace cp a.txt dev:/dir/
      clawdspace cp dev:/f .
      clawdspace cp -r src dev:/
      tar c . | clawdspace cp - dev:/all.tar
    """
    origin, goal = _place(source), _place(target)
    client = SpacesClient(ensure_daemon())
    if isinstance(goal, _Remote) and isinstance(origin, str):
        _upload(client, origin, goal, recursive=recursive)
    elif isinstance(origin, _Remote) and isinstance(goal, str):
        _download(client, origin, goal, recursive=recursive)
    else:
        raise InvalidRequest(
            "one of the two must be in a space, and the other one here",
            remedy="write for instance: clawdspace cp a.txt dev:/",
        )


def _place(word: str) -> _Remote | str:
    found = _REMOTE.fullmatch(word)
    return _Remote(found[1], "/" + found[2].lstrip("/")) if found else word


# -- there -------------------------------------------------------------------------------------------------------------


def _upload(client: SpacesClient, source: str, goal: _Remote, *, recursive: bool) -> None:
    into = goal.path.endswith("/") or _is_folder(client, goal)
    if source == "-":
        if into:
            raise InvalidRequest("stdin has no name", field="target", remedy="name a file, for instance dev:/data")
        client.write_file(goal.space, goal.path, iter(lambda: os.read(0, CHUNK), b""))
        return
    origin = Path(source)
    name = origin.resolve().name
    place = posixpath.join(goal.path, name) if into else goal.path
    if not origin.is_dir():
        _send(client, origin, goal.space, place)
        return
    if not recursive:
        raise InvalidRequest(f"{source} is a folder", field="source", remedy="use -r")
    client.make_folder(goal.space, place)
    for folder, folders, names in os.walk(origin):
        inner = posixpath.normpath(posixpath.join(place, Path(folder).relative_to(origin).as_posix()))
        for empty in folders:
            client.make_folder(goal.space, posixpath.join(inner, empty))
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file():
                _send(client, path, goal.space, posixpath.join(inner, name))
            else:
                note(f"note: {printable(str(path))} is no file, and left out")


def _send(client: SpacesClient, path: Path, space: str, place: str) -> None:
    try:
        with path.open("rb") as file, _progress(path.name, os.fstat(file.fileno()).st_size) as advance:
            # Without a size: it may grow or shrink meanwhile.
            client.write_file(space, place, _counted(iter(lambda: file.read(CHUNK), b""), advance))
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field="source") from error


def _is_folder(client: SpacesClient, place: _Remote) -> bool:
    try:
        client.list_files(place.space, place.path)
    except NotFound:
        return False
    return True


# -- back --------------------------------------------------------------------------------------------------------------


def _download(client: SpacesClient, origin: _Remote, target: str, *, recursive: bool) -> None:
    name = posixpath.basename(posixpath.normpath(origin.path)) or origin.space
    if target == "-":
        _receive(client, origin, None)
        return
    goal = Path(target, name) if target.endswith("/") or Path(target).is_dir() else Path(target)
    if not recursive or not _is_folder(client, origin):
        _receive(client, origin, goal)
        return
    _receive_folder(client, origin, goal)


def _receive_folder(client: SpacesClient, origin: _Remote, goal: Path) -> None:
    try:
        goal.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"cannot make {goal}: {error.strerror}", field="target") from error
    for entry in client.list_files(origin.space, origin.path):
        if entry.name in ("", ".", "..") or "/" in entry.name or "\0" in entry.name:
            raise InvalidRequest("the space names a file as no file can be named")
        inner = origin._replace(path=posixpath.join(origin.path, entry.name))
        if entry.type == "dir":
            _receive_folder(client, inner, goal / entry.name)
        elif entry.type == "file":
            _receive(client, inner, goal / entry.name)
        else:
            note(f"note: {printable(inner.path)} is no file, and left out")


def _receive(client: SpacesClient, origin: _Remote, goal: Path | None) -> None:
    """Copy one file, to a name of its own first so that what is there under its name is always whole."""
    with client.open_file(*origin) as answer, _progress(posixpath.basename(origin.path), answer.length) as advance:
        chunks = _counted(answer, advance)
        if goal is None:
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            return
        try:
            _put(goal.resolve(), chunks)
        except OSError as error:
            raise InvalidRequest(f"cannot write {goal}: {error.strerror}", field="target") from error


def _put(goal: Path, chunks: Iterable[bytes]) -> None:
    """Write a file; one that is a device or a pipe as it is, any other by renaming.  Raises OSError."""
    as_it_is = goal.exists() and not goal.is_file()
    part = goal if as_it_is else goal.with_name(f".{goal.name[:50]}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        if not as_it_is:
            part.replace(goal)
    finally:
        if not as_it_is:
            part.unlink(missing_ok=True)


# -- both --------------------------------------------------------------------------------------------------------------


def _counted(chunks: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk))


@contextlib.contextmanager
def _progress(name: str, total: int | None) -> Iterator[Advance]:
    """Show how far it is, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda _size: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(printable(name)), total=total)
        yield lambda size: progress.advance(task, size)
