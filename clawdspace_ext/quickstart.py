"""``clawdspace quickstart``: from nothing to a notebook executed inside a space, and a space to go on with."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from .client import SpacesClient
from .errors import Broken, InvalidRequest, Unavailable
from .spaces import ExecRequest, Space

#: Seconds that one cell may take; the first waits for the kernel.
CELL_TIMEOUT = 120
#: Seconds that the daemon may take to write a kernel spec.
SPEC_TIMEOUT = 5.0


class Progress(Protocol):
    """How the steps are shown."""

    def step(self, title: str) -> AbstractContextManager[Callable[[str], None]]:
        """Show that a step is under way, and how long it took; what is called within adds what came of it."""

    def say(self, text: str) -> None:
        """Show something."""


def quickstart(client: SpacesClient, folder: Path, progress: Progress) -> tuple[Space, Path]:
    """Make a space, run a command in it, execute the notebook in it and save that in ``folder``.

    Returns the space, which is left to be used, and the notebook's path.  Raises SpaceError.
    """
    space = _make_space(client, progress)
    with progress.step("run a command in it") as done:
        done(_first_line(client, space))
    with progress.step("execute a notebook in it") as done:
        notebook = _execute(space)
        done(f"{sum(cell.cell_type == 'code' for cell in notebook.cells)} cells")
    path = _free_path(folder, space.name)
    with progress.step("save the notebook") as done:
        path.write_text(nbformat.writes(notebook))  # type: ignore[no-untyped-call]  # nbformat has no types
        done(str(path))
    for line in _printed(notebook):
        progress.say(line)
    return space, path


def _make_space(client: SpacesClient, progress: Progress) -> Space:
    name = _free_name({space.name for space in client.list()})
    with progress.step("make a space") as done:
        try:
            space = client.create(name)
        except InvalidRequest as error:
            # The image of the default engine is not there: say so, and use what needs none.
            if error.field != "image" or "bubblewrap" not in _engines(client):
                raise
            progress.say(f"Docker answers, but {error.message}: {error.remedy}. Using bubblewrap.")
            space = client.create(name, engine="bubblewrap")
        done(f"{space.name}, on {space.engine}")
    return space


def _engines(client: SpacesClient) -> list[str]:
    return [engine["name"] for engine in client.request("GET", "/api/system/capabilities")["engines"]]


def _free_name(taken: set[str]) -> str:
    names = ("quickstart" if number == 1 else f"quickstart-{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def _free_path(folder: Path, name: str) -> Path:
    paths = (folder / (f"{name}.ipynb" if number == 1 else f"{name}-{number}.ipynb") for number in count(1))
    return next(path for path in paths if not path.exists())


def _first_line(client: SpacesClient, space: Space) -> str:
    result = client.exec(space.name, ExecRequest(("python3", "-c", "import platform; print(platform.platform())")))
    if result.exit_code != 0:
        raise Broken(f"a command in {space.name} failed: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode(errors="replace").strip()


def _execute(space: Space) -> Any:
    """Return the notebook with its outputs."""
    source = resources.files("clawdspace_ext").joinpath("quickstart.ipynb").read_text()
    notebook = nbformat.reads(source, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    kernel = f"clawdspace-{space.name}"
    _await_spec(kernel)
    try:
        NotebookClient(notebook, kernel_name=kernel, timeout=CELL_TIMEOUT).execute()
    except CellExecutionError as error:
        raise Broken(f"a cell failed in {space.name}: {error}") from error
    except RuntimeError as error:  # what nbclient and jupyter_client raise when a kernel cannot be had, or dies
        raise Unavailable(f"no kernel could be used in {space.name}: {error}", remedy="clawdspace doctor") from error
    notebook.metadata.kernelspec = {"name": kernel, "display_name": space.name, "language": "python"}
    return notebook


def _await_spec(kernel: str) -> None:
    """Wait for the daemon to write the kernel's spec, which it does right after it made the space."""
    specs = KernelSpecManager()
    deadline = time.monotonic() + SPEC_TIMEOUT
    while kernel not in specs.find_kernel_specs():
        if time.monotonic() > deadline:
            folders = ", ".join(specs.kernel_dirs)
            raise Unavailable(
                f"the kernel {kernel} is in none of Jupyter's folders: {folders}",
                remedy="if JUPYTER_DATA_DIR has changed, run 'clawdspace daemon stop' and try again",
            )
        time.sleep(0.05)


def _printed(notebook: Any) -> Iterator[str]:
    """Yield what the cells printed, line by line."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                yield from re.split(r"\r?\n", output.text.rstrip("\n"))
