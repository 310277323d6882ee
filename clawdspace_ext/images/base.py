"""The image that another one is built on: found, pulled, or made from the machine's own Debian sources."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import docker
from docker.errors import APIError, ImageNotFound

from ..errors import Unavailable
from .progress import Progress
from .recipes import Recipe

#: On every image of ours: a digest of what it was made from.
INPUTS_LABEL = "clawdspace.inputs"
_DEBIAN = "debian:"
_APT_SOURCES = ("sources.list", "sources.list.d/debian.sources", "sources.list.d/ubuntu.sources")
_NOT_IN_A_BASE = ("doc", "info", "locale", "man")
_TOLD = 2000  # characters of a failure


def find_base(client: docker.APIClient, recipe: Recipe, progress: Progress) -> str:
    """Return the name of an image to build on.  Raises Unavailable when there is none and none can be had."""
    with contextlib.suppress(ImageNotFound):
        inspect(client, recipe.base)
        return recipe.base
    own, wanted = f"clawdspace-base:{recipe.variant}", hashlib.sha256(repr((recipe.packages, _suite())).encode())
    if recipe.base.startswith(_DEBIAN) and label(client, own, INPUTS_LABEL) == wanted.hexdigest():
        return own
    reason = _pull(client, recipe.base, progress)
    if reason is None:
        return recipe.base
    if not recipe.base.startswith(_DEBIAN) or shutil.which("mmdebstrap") is None:
        raise Unavailable(f"there is no {recipe.base}, and it cannot be pulled: {reason}", remedy=_remedy(recipe))
    progress.step(f"make {own} from this machine's package sources, since {recipe.base} cannot be pulled")
    _bootstrap(client, own, recipe.packages, wanted.hexdigest())
    return own


def _remedy(recipe: Recipe) -> str:
    if recipe.base.startswith(_DEBIAN):
        return "install mmdebstrap, which makes one here, or name an image that is here with --base"
    return f"docker pull {recipe.base}, or name an image that is here with --base"


def _pull(client: docker.APIClient, image: str, progress: Progress) -> str | None:
    """Pull an image.  Returns why that failed, or None."""
    progress.step(f"pull {image}")
    try:
        for line in client.pull(image, stream=True, decode=True):
            if "error" in line:
                return str(line["error"])
            progress.line(" ".join(filter(None, (line.get("id"), line.get("status"), line.get("progress")))))
    except APIError as error:
        return str(error.explanation or error)
    return None


def _bootstrap(client: docker.APIClient, image: str, packages: tuple[str, ...], digest: str) -> None:
    """Make a Debian with these packages in it."""
    sources = [str(path) for name in _APT_SOURCES if (path := Path("/etc/apt", name)).is_file() and path.stat().st_size]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _NOT_IN_A_BASE]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            [*command, _suite(), "-", *sources], stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL
        ) as maker:
            assert maker.stdout is not None
            repository, _, tag = image.partition(":")
            client.import_image_from_stream(
                _chunks(maker.stdout), repository=repository, tag=tag, changes=[f"LABEL {INPUTS_LABEL}={digest}"]
            )
        if maker.returncode:
            with contextlib.suppress(APIError):
                client.remove_image(image, force=True)
            said.seek(0)
            tail = said.read().decode(errors="replace")[-_TOLD:]
            raise Unavailable(f"mmdebstrap failed with exit code {maker.returncode}: {tail}")


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while data := stream.read(1 << 20):
        yield data


def _suite() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")


def inspect(client: docker.APIClient, image: str) -> dict[str, Any]:
    """Return what the engine knows of an image.  Raises ImageNotFound."""
    inspected: dict[str, Any] = client.inspect_image(image)  # type: ignore[no-untyped-call]  # the stubs lack it
    return inspected


def label(client: docker.APIClient, image: str, name: str) -> str | None:
    """Return a label of an image, None when it has none or is not there."""
    try:
        labels = inspect(client, image)["Config"].get("Labels") or {}
    except ImageNotFound:
        return None
    return labels.get(name)
