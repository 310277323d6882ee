"""Commands on the files of destroyed spaces."""

from __future__ import annotations

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from ..wire import kept_to_json
from .output import age, print_json, print_table


@click.group(invoke_without_command=True, short_help="List or remove the files kept of destroyed spaces.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def volumes(ctx: click.Context, as_json: bool) -> None:
    """List the files kept of destroyed spaces.

    'clawdspace create NAME --adopt-volume' gives a new space of the same name the newest of them.
    """
    if ctx.invoked_subcommand:
        return
    kept = SpacesClient(ensure_daemon()).kept()
    if as_json:
        print_json({"volumes": [kept_to_json(volume) for volume in kept]})
        return
    print_table(
        ("ID", "NAME", "OWNER", "AGE"),
        ((volume.id, volume.name, volume.owner, age(volume.created)) for volume in kept),
        empty="no files are kept",
    )


@volumes.command("rm")
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
def remove(ids: tuple[str, ...]) -> None:
    """Remove kept files for good."""
    client = SpacesClient(ensure_daemon())
    for volume_id in ids:
        client.remove_kept(volume_id)
        click.echo(f"{volume_id} is removed")
