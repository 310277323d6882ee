"""Commands on spaces themselves."""

from __future__ import annotations

import sys

import click

from ..client import SpacesClient
from ..daemon_process import ensure_daemon
from ..errors import InvalidRequest
from ..spaces import DEFAULT_CPUS, DEFAULT_MEMORY, DEFAULT_NETWORK, Network, Space, SpaceSpec, SpaceState
from ..wire import parse_memory, space_to_json
from .execute import parse_env
from .names import space_names
from .output import age, note, print_json, print_table, size


@click.command(short_help="Make a space and start it.")
@click.argument("name")
@click.option("-m", "--memory", metavar="SIZE", help="Memory limit, for instance 512m or 4g.  [default: 2g]")
@click.option("-c", "--cpus", type=float, default=DEFAULT_CPUS, show_default=True, help="CPU limit, for instance 1.5.")
@click.option("--image", help="What it is made of.  [default: the engine's]")
@click.option("-e", "--env", "env", multiple=True, metavar="K=V", help="Set a variable in the space; repeatable.")
@click.option(
    "--network",
    type=click.Choice([mode.value for mode in Network]),
    default=DEFAULT_NETWORK.value,
    show_default=True,
    help="What it may reach: public addresses of the internet, or nothing.",
)
@click.option("--engine", help="Run it with 'docker' or 'bubblewrap'.  [default: Docker if it answers]")
@click.option("--adopt-volume", is_flag=True, help="Give it the files kept of an earlier space of that name.")
@click.option("--require-limits", is_flag=True, help="Fail if a limit cannot be enforced here.")
@click.option("--json", "as_json", is_flag=True, help="Print the space as JSON.")
def create(
    name: str,
    memory: str | None,
    cpus: float,
    image: str | None,
    env: tuple[str, ...],
    network: str,
    engine: str | None,
    adopt_volume: bool,
    require_limits: bool,
    as_json: bool,
) -> None:
    """Make a space called NAME and start it."""
    spec = SpaceSpec(
        image=image,
        memory=parse_memory(memory) if memory else DEFAULT_MEMORY,
        cpus=cpus,
        network=Network(network),
        env=parse_env(env),
        require_limits=require_limits,
    )
    space = _client().create(name, spec, adopt_volume=adopt_volume, engine=engine)
    if as_json:
        print_json({"space": space_to_json(space)})
        return
    cpus_given = f"{spec.cpus:g} CPU{'' if spec.cpus == 1 else 's'}"
    click.echo(f"{name} is {space.state} on {space.engine}, {size(spec.memory)} of memory, {cpus_given}")
    if space.not_enforced:
        note(f"note: {space.engine} cannot enforce these limits here: {', '.join(space.not_enforced)}")
    note(f"next: clawdspace exec {name} 'python3 --version', or clawdspace shell {name}")


@click.command("list", short_help="List spaces.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_spaces(as_json: bool) -> None:
    """List spaces, by name."""
    spaces = _client().list()
    if as_json:
        print_json({"spaces": [space_to_json(space) for space in spaces]})
        return
    print_table(
        ("NAME", "STATUS", "ENGINE", "IMAGE", "MEMORY", "CPUS", "LAST USED"),
        (_row(space) for space in spaces),
        empty="there are no spaces; make one: clawdspace create NAME",
    )


def _row(space: Space) -> tuple[str, ...]:
    spec = space.record.spec
    memory = size(spec.memory) + (" (not enforced)" if "memory" in space.not_enforced else "")
    cpus = f"{spec.cpus:g}" + (" (not enforced)" if "cpus" in space.not_enforced else "")
    return (space.name, str(space.state), space.engine, space.image, memory, cpus, age(space.last_activity))


@click.command(short_help="Put a space to sleep.")
@click.argument("name", shell_complete=space_names)
@click.option("--halt", is_flag=True, help="End its processes and give its memory back; its files stay.")
def stop(name: str, halt: bool) -> None:
    """Put the space NAME to sleep, its memory kept.  Using it, or 'start', wakes it."""
    space = _client().stop(name) if halt else _client().pause(name)
    click.echo(f"{name} is {space.state}")
    if space.state is SpaceState.STOPPED and not halt:
        note("note: it had no processes to put to sleep")


@click.command(short_help="Wake or start a space.")
@click.argument("name", shell_complete=space_names)
def start(name: str) -> None:
    """Wake the space NAME, or start it if it was halted."""
    click.echo(f"{name} is {_client().start(name).state}")


@click.command(short_help="Remove a space.")
@click.argument("name", shell_complete=space_names)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--remove-volume", is_flag=True, help="Remove its files as well, for good.")
def destroy(name: str, force: bool, remove_volume: bool) -> None:
    """End and remove the space NAME.  The files of its /workspace are kept unless told otherwise."""
    client = _client()
    space = client.get(name)
    fate = "its files are removed for good" if remove_volume else "its files are kept"
    if not force:
        if not sys.stdin.isatty():
            raise InvalidRequest("nobody can be asked here", remedy="use -f")
        click.confirm(f"Destroy {name}? Its processes end, {fate}.", abort=True)
    client.destroy(name, remove_volume=remove_volume)
    click.echo(f"{name} is destroyed; {fate}")
    if not remove_volume:
        note(f"to have them back: clawdspace create {name} --adopt-volume")
        note(f"to remove them:    clawdspace volumes rm {space.id}")


def _client() -> SpacesClient:
    return SpacesClient(ensure_daemon())
