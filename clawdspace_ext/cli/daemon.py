"""Commands on the daemon."""

from __future__ import annotations

import click

from .. import daemon_process, daemon_record, paths
from .output import note, print_json


@click.group(short_help="See, stop or debug the daemon.")
def daemon() -> None:
    """The daemon owns this user's spaces.  It is started when it is needed, and leaves when nothing runs."""


@daemon.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(as_json: bool) -> None:
    """Tell whether it runs and what it does; exit code 3 when it does not run."""
    facts = daemon_process.status()
    if as_json:
        print_json({"running": facts is not None} | (facts or {}))
    elif facts is None:
        click.echo("the daemon does not run")
        note("it is started when it is needed")
    else:
        click.echo(f"the daemon runs: version {facts['version']}, process {facts['pid']}")
        click.echo(f"in flight: {facts['inFlight']} requests, commands and kernels")
        click.echo(f"engines: {', '.join(facts['engines']) or 'none'}")
        for name, reason in facts["missing"].items():
            click.echo(f"no {name}: {reason}")
        click.echo(f"socket:  {facts['socket']}\npython:  {facts['python']}\nlog:     {paths.log_path()}")
    if facts is None:
        raise click.exceptions.Exit(3)


@daemon.command()
def stop() -> None:
    """Stop it.  Spaces and what runs in them go on; the next use starts it again."""
    click.echo("the daemon is stopped" if daemon_process.stop() else "the daemon did not run")


@daemon.command()
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines.")
def logs(lines: int) -> None:
    """Print the last lines of its log."""
    click.echo(daemon_record.log_tail(lines), nl=False)
    note(f"from {paths.log_path()}")
