"""Commands that look at what goes on in a space: ``ps``, ``attach``, ``stats``."""

from __future__ import annotations

import shlex
import sys

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from ..errors import InvalidRequest
from ..wire import command_info_to_json
from .execute import show
from .output import age, note, print_json, print_table, size

_INTERRUPTED = 130


@click.command(short_help="List the commands of a space.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def ps(name: str, as_json: bool) -> None:
    """List the commands of the space NAME that run, or ended while nobody followed them."""
    commands = SpacesClient(ensure_daemon()).commands(name)
    if as_json:
        print_json({"processes": [command_info_to_json(command) for command in commands]})
        return
    print_table(
        ("ID", "STATUS", "AGE", "COMMAND"),
        (
            (c.id, "running" if c.running else "ended", age(c.started), " ".join(map(shlex.quote, c.argv)))
            for c in commands
        ),
        empty=f"nothing runs in {name}; start something: clawdspace exec --detach {name} COMMAND",
    )


@click.command(short_help="Follow a command that was left alone.")
@click.argument("name")
@click.argument("process_id", metavar="[ID]", required=False)
def attach(name: str, process_id: str | None) -> None:
    """Show what a command in the space NAME has written and writes, and exit with its exit code.

    ID is what 'exec --detach' printed and 'ps' lists; it may be left out when there is only one.  Ctrl-C leaves the
    command alone again.
    """
    client = SpacesClient(ensure_daemon())
    with client.attach(name, process_id or _only(client, name)) as process:
        for output, count in process.lost.items():
            note(f"note: {size(count)} of {output} came before this and are kept no longer")
        try:
            sys.exit(show(process))
        except KeyboardInterrupt:
            note(f"{process.id} runs on; to follow it again: clawdspace attach {name} {process.id}")
            sys.exit(_INTERRUPTED)


def _only(client: SpacesClient, name: str) -> str:
    commands = client.commands(name)
    if len(commands) == 1:
        return commands[0].id
    raise InvalidRequest(
        f"{len(commands)} commands run in {name}" if commands else f"nothing runs in {name}",
        field="id",
        remedy=f"clawdspace ps {name} lists them; name one" if commands else f"clawdspace exec --detach {name} COMMAND",
    )


@click.command(short_help="Show what a space uses.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def stats(name: str, as_json: bool) -> None:
    """Show what the space NAME uses now.  A sleeping one is not woken."""
    found = SpacesClient(ensure_daemon()).stats(name)
    if as_json:
        print_json({"stats": found})
        return
    limit = found["memoryLimitBytes"]
    print_table(
        ("CPU", "MEMORY", "LIMIT", "PROCESSES", "DISK READ", "DISK WRITTEN"),
        [
            (
                f"{found['cpuPercent']:.1f} %",
                size(found["memoryUsageBytes"]),
                size(limit) if limit else "-",
                str(found["pids"]),
                size(found["blockReadBytes"]),
                size(found["blockWriteBytes"]),
            )
        ],
        empty="",
    )
