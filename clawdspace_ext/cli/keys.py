"""Commands on the keys of the REST API."""

from __future__ import annotations

import click

from ..keys import KeyStore
from .output import note, print_json, print_table


@click.group(short_help="Manage keys of the REST API.")
def keys() -> None:
    """Named keys for programs and peers.  A key opens the spaces API of this user's servers, and nothing else."""


@keys.command()
@click.argument("name")
def add(name: str) -> None:
    """Make a key called NAME and print it, this once."""
    click.echo(KeyStore().create(name))
    note("keep it: it cannot be shown again.  Send it as 'Authorization: Bearer KEY'")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_keys(as_json: bool) -> None:
    """List keys by name; not the keys themselves."""
    known = KeyStore().list()
    if as_json:
        print_json({"keys": [{"name": key.name, "created": key.created} for key in known]})
        return
    print_table(
        ("NAME", "CREATED"),
        ((key.name, key.created) for key in known),
        empty="there are no keys; make one: clawdspace keys add NAME",
    )


@keys.command("rm")
@click.argument("name")
def remove(name: str) -> None:
    """Make the key called NAME useless from now on."""
    KeyStore().remove(name)
    click.echo(f"the key {name} is removed")
