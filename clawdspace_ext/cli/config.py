"""What is set, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click

from .. import paths
from ..userconfig import HOSTS, KEY, Entry, default_path, read_config
from .output import note, print_json, print_table

#: variable -> what it means when it is not set
VARIABLES = {
    "CLAWDSPACE_IMAGE": "clawdspace:latest",
    "CLAWDSPACE_DAEMON_IDLE_S": "600",
    "DOCKER_HOST": "unix:///var/run/docker.sock",
    "PORT": "7777",
    "API_KEY": "a new one each time",
}
SECRET = {"API_KEY", *KEY}


class Setting(NamedTuple):
    """One setting; ``source`` is ``environment``, ``default``, or a file and line."""

    name: str
    value: str
    source: str


@click.command(short_help="Show what is set, and where.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def config(as_json: bool) -> None:
    """Show the settings that hold and where each comes from: the environment, ~/.clawdspace, or nobody.

    Secrets are not shown.  A running daemon keeps the environment it was started with.
    """
    entries = read_config(default_path())
    settings = [*_variables(), _either(KEY, entries), _either(HOSTS, entries), *_folders()]
    if as_json:
        print_json({"settings": [setting._asdict() for setting in settings]})
    else:
        print_table(("SETTING", "VALUE", "FROM"), settings, empty="")
    _remark(entries)


def _variables() -> Iterator[Setting]:
    for name, default in VARIABLES.items():
        value = os.environ.get(name)
        yield Setting(name, default, "default") if not value else Setting(name, _shown(name, value), "environment")


def _either(names: tuple[str, str], entries: Mapping[str, Entry]) -> Setting:
    """Return a setting that the environment may give by its first name, and the file by both."""
    if value := os.environ.get(names[0]):
        return Setting(names[0], _shown(names[0], value), "environment")
    for name in names:
        if name in entries:
            return Setting(names[0], _shown(name, entries[name].value), f"{default_path()}:{entries[name].line}")
    return Setting(names[0], "", "default")


def _folders() -> Iterator[Setting]:
    source = "environment" if paths.home() else "default"
    yield Setting("data folder", str(paths.data_dir()), source)
    yield Setting("log", str(paths.log_path()), source)


def _shown(name: str, value: str) -> str:
    return "(set, not shown)" if name in SECRET else value


def _remark(entries: Mapping[str, Entry]) -> None:
    """Say what is odd about the file."""
    if unknown := sorted(entries.keys() - {*KEY, *HOSTS}):
        note(f"note: nothing reads these of {default_path()}: {', '.join(unknown)}")
    if entries.keys() & {*KEY, *HOSTS}:
        note(
            f"note: the key and the hosts in {default_path()} are for other servers, which this version cannot use yet"
        )
    if entries.keys() & {*KEY} and default_path().stat().st_mode & 0o077:
        note(f"note: others can read the key in {default_path()}; chmod 600 it")
