"""Commands that run a command: ``exec`` and ``shell``.  The hot path: what is imported here is paid for every time."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from ..errors import InvalidRequest, SpaceError
from ..spaces import LOGIN_SHELL, ExecRequest, ExecResult, TerminalSize
from .names import space_names
from .signals import forwarded

if TYPE_CHECKING:
    from ..remote_process import RemoteProcess

#: What coreutils' ``timeout`` answers as well.
TIMED_OUT = 124
_CHUNK = 64 * 1024


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command in a space.",
)
@click.argument("name", shell_complete=space_names)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND…")
@click.option("-e", "--env", "env", multiple=True, metavar="K=V", help="Set a variable for the command; repeatable.")
@click.option("--cwd", default="/workspace", show_default=True, help="Folder to run it in.")
@click.option("--timeout", type=float, metavar="SECONDS", help=f"Kill it after this time; exit code {TIMED_OUT}.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it alone and print its id, for 'clawdspace attach'.")
@click.option("--json", "as_json", is_flag=True, help="Print stdout, stderr and exit code as JSON when it has ended.")
def execute(
    name: str,
    words: tuple[str, ...],
    env: tuple[str, ...],
    cwd: str,
    timeout: float | None,
    tty: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Run COMMAND in the space NAME and exit with its exit code.

    The words are joined by spaces and run by 'sh -c'.  After '--' they are run as they are, without a shell.
    Options go before NAME.  Stdin is passed on unless it is a terminal; a sleeping space is woken.

    \b
      clawdspace exec dev 'ls | wc -l'
      clawdspace exec dev -- python3 -c 'print(1 + 1)'
      tar c . | clawdspace exec dev tar x
    """
    request = ExecRequest(_argv(words), env=parse_env(env), cwd=cwd, timeout=timeout)
    client = SpacesClient(ensure_daemon())
    if detach:
        _leave(client, name, request, as_json=as_json)
        return
    if as_json:
        sys.exit(_collect(client, name, request))
    sys.exit(_in_terminal(client, name, request) if tty else _stream(client, name, request))


@click.command(short_help="Open a shell in a space.")
@click.argument("name", shell_complete=space_names)
@click.option("-e", "--env", "env", multiple=True, metavar="K=V", help="Set a variable for the shell; repeatable.")
def shell(name: str, env: tuple[str, ...]) -> None:
    """Open a login shell in the space NAME, in a terminal of its own.  A sleeping space is woken."""
    sys.exit(_in_terminal(SpacesClient(ensure_daemon()), name, ExecRequest(LOGIN_SHELL, env=parse_env(env))))


def parse_env(pairs: tuple[str, ...]) -> Mapping[str, str]:
    """Return ``K=V`` words as a mapping; ``K`` alone takes the value from our environment.  Raises InvalidRequest."""
    env = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in os.environ:
            raise InvalidRequest(f"the variable {name} is not set here", field="env", remedy="write -e NAME=VALUE")
        env[name] = value if equals else os.environ[name]
    return env


def _argv(words: tuple[str, ...]) -> tuple[str, ...]:
    if words[0] == "--":
        return words[1:]
    return ("sh", "-c", " ".join(words))


def _collect(client: SpacesClient, name: str, request: ExecRequest) -> int:
    from dataclasses import replace

    from ..wire import exec_to_json
    from .output import print_json

    stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    result = client.exec(name, replace(request, stdin=stdin))
    print_json(exec_to_json(result))
    return _ending(result)


def _leave(client: SpacesClient, name: str, request: ExecRequest, *, as_json: bool) -> None:
    """Start a command without stdin and let go of it once it runs."""
    from .output import note, print_json

    process = client.open_exec(name, request, detach=True)
    process.end_stdin()
    if all(command.id != process.id for command in client.commands(name)):
        for _ in process.output():
            pass  # it could not be started, and this raises why
    process.close()
    if as_json:
        print_json({"id": process.id})
        return
    click.echo(process.id)
    note(f"next: clawdspace attach {name} {process.id}, or clawdspace ps {name}")


def _stream(client: SpacesClient, name: str, request: ExecRequest) -> int:
    """Run a command with our stdin, stdout and stderr as its own."""
    with client.open_exec(name, request) as process, _passing_on(process, signal.SIGINT, signal.SIGTERM):
        if os.isatty(0):
            process.end_stdin()
        else:
            _in_background(lambda: _feed(process))
        return show(process)


def _in_terminal(client: SpacesClient, name: str, request: ExecRequest) -> int:
    """Run a command in a terminal of the space, shown in ours."""
    from dataclasses import replace

    from . import terminal

    env = {"TERM": os.environ.get("TERM", "xterm-256color"), **request.env}
    request = replace(request, tty=TerminalSize(*terminal.size()), env=env)
    with (
        client.open_exec(name, request) as process,
        terminal.raw(),
        forwarded({signal.SIGWINCH: lambda: process.resize(*terminal.size())}),
        _passing_on(process, signal.SIGTERM),
    ):
        _in_background(lambda: _feed(process))
        return show(process)


def _passing_on(process: RemoteProcess, *numbers: signal.Signals) -> AbstractContextManager[None]:
    """While entered, these signals go to the command instead of ending us: it decides what they mean."""
    return forwarded({number: partial(process.signal, number) for number in numbers})


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="stdin", daemon=True).start()


def _feed(process: RemoteProcess) -> None:
    try:
        while data := _read():
            process.write(data)
        process.end_stdin()
    except SpaceError:
        pass  # the command has ended: ``show`` tells how


def show(process: RemoteProcess) -> int:
    """Pass its output on, byte for byte, until it ends."""
    try:
        for channel, data in process.output():
            _write(channel, data)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # whoever read our output is gone; leaving hangs up on the command
    if process.timed_out:
        click.echo("error: the command took longer than --timeout and was killed", err=True)
        return TIMED_OUT
    assert process.exit_code is not None
    return process.exit_code


def _read() -> bytes:
    """Return the next bytes of our stdin, none at its end or when there is no stdin."""
    while True:
        try:
            return os.read(0, _CHUNK)
        except BlockingIOError:  # whoever shares the terminal with us made it so
            select.select([0], [], [])
        except OSError:
            return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


def _ending(result: ExecResult) -> int:
    return TIMED_OUT if result.timed_out else result.exit_code
