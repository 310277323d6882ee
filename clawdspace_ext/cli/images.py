"""Commands on the images that Docker spaces are made of."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..images.recipes import NAMES, VARIANTS, recipe_of
from .output import age, note, print_json, print_table, printable, size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from ..images.builder import Image
    from ..images.progress import Progress

_TITLE = 60  # characters of a step


@click.group(short_help="Build or list the images that Docker spaces are made of.")
def images() -> None:
    """Build or list the images that Docker spaces are made of, on the engine that DOCKER_HOST names."""


@images.command("build")
@click.argument("name", type=click.Choice(NAMES), default=NAMES[0])
@click.option("--variant", type=click.Choice(VARIANTS), default=VARIANTS[0], help="slim is without tools and node.")
@click.option("--tag", help="What to call it, instead of its usual name.")
@click.option("--base", help="The Debian or Ubuntu image to build on, instead of the usual one.")
@click.option("--no-cache", is_flag=True, help="Build every step, even if nothing has changed.")
@click.option("--json", "as_json", is_flag=True, help="Print the image as JSON.")
def build(name: str, variant: str, tag: str | None, base: str | None, no_cache: bool, as_json: bool) -> None:
    """Build the image NAME: default, or gpu.  One that is up to date is left as it is."""
    from ..images import builder

    started = time.monotonic()
    with _progress() as progress:
        image = builder.build(recipe_of(name, variant), progress, tag=tag, base=base, no_cache=no_cache)
    if as_json:
        print_json(_to_json(image))
        return
    click.echo(f"{image.tag} is ready: {size(image.size)}, {time.monotonic() - started:.0f} s")


@images.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_images(as_json: bool) -> None:
    """List the images that come with clawdspace, built or not."""
    from ..images import builder

    found = builder.list_images()
    if as_json:
        print_json({"images": [_to_json(image) for image in found]})
        return
    rows = ((image.tag, _state(image), size(image.size) if image.id else "-", age(image.created)) for image in found)
    print_table(("IMAGE", "STATE", "SIZE", "AGE"), rows, empty="")
    for image in found:
        if image.id and not image.current:
            note(f"{image.tag} is older than this clawdspace: {image.recipe.command}")


def _state(image: Image) -> str:
    if not image.id:
        return "not built"
    return "ok" if image.current else "outdated"


def _to_json(image: Image) -> dict[str, Any]:
    return {
        "image": image.tag,
        "name": image.recipe.name,
        "variant": image.recipe.variant,
        "id": image.id or None,
        "size": image.size if image.id else None,
        "created": image.created.isoformat() if image.created else None,
        "state": _state(image),
    }


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Show a build on stderr: a moving bar in a terminal, a line for each step elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True))
    columns = (SpinnerColumn(), TimeElapsedColumn(), BarColumn(20), text)
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        yield _Bar(bar)


class _Lines:
    """Steps as lines; what a step says is left out."""

    def step(self, title: str, number: int = 0, total: int = 0) -> None:
        """Print it."""
        note(_titled(title, number, total))

    def line(self, text: str) -> None:
        """Print nothing."""


class _Bar:
    """A bar of the steps, and beside it what the present one said last."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def step(self, title: str, number: int = 0, total: int = 0) -> None:
        """Move the bar."""
        done = max(number - 1, 0)
        self._bar.update(self._task, description=_titled(title, number, total), completed=done, total=total or None)

    def line(self, text: str) -> None:
        """Show it."""
        self._bar.update(self._task, description=printable(text.strip()))


def _titled(title: str, number: int, total: int) -> str:
    short = printable(" ".join(title.split()))
    if not total:
        return short
    return f"[{number:>2}/{total}] {short[:_TITLE]}{'…' if len(short) > _TITLE else ''}"
