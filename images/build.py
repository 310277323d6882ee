"""Build the images that spaces are made of: ``python images/build.py [--docker-host unix://…]``.

Where the base image can neither be found nor pulled, it is made from the machine's own Debian sources with mmdebstrap.
A build whose inputs have not changed is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

FOLDER = Path(__file__).resolve().parent / "python"
TAG = "clawdspace:latest"
BASE = "debian:bookworm-slim"
OWN_BASE = "clawdspace-base:latest"
INPUTS_LABEL = "clawdspace.inputs"
BUILD_SECONDS = 1200
CERTIFICATES = Path("/usr/local/share/ca-certificates")
APT_SOURCES = ("sources.list", "sources.list.d/debian.sources", "sources.list.d/ubuntu.sources")
PACKAGES = ("ca-certificates", "procps", "python3", "python3-venv")
NOT_IN_A_BASE = ("doc", "info", "locale", "man")

Say = Callable[[str], object]


class BuildFailed(Exception):
    """The image could not be built; the message ends with what the builder said."""


def build(docker_host: str | None = None, *, tag: str = TAG, base: str | None = None, say: Say = print) -> str:
    """Build the image unless it is there already, and return its id.  Raises BuildFailed."""
    host = docker_host or os.environ.get("DOCKER_HOST")
    try:
        with contextlib.closing(docker.APIClient(host, timeout=BUILD_SECONDS)) as client:
            inputs = _digest(base)
            if _label(client, tag) == inputs:
                say(f"{tag} is up to date")
            else:
                _build(client, tag, base or _base(client, say), inputs, say)
            return str(_inspect(client, tag)["Id"])
    except (DockerException, requests.RequestException) as error:
        raise BuildFailed(f"Docker: {error}") from error


def _build(client: docker.APIClient, tag: str, base: str, inputs: str, say: Say) -> None:
    say(f"building {tag} on {base}")
    progress = client.build(
        fileobj=_context(),
        custom_context=True,
        encoding="gzip",
        tag=tag,
        buildargs={"BASE": base, "PACKAGES": " ".join(PACKAGES), **_pip_settings()},
        labels={INPUTS_LABEL: inputs},
        network_mode="host",  # the machine's own way to its package index
        rm=True,
        forcerm=True,
        decode=True,
    )
    lines: list[str] = []
    for step in progress:
        lines += str(step.get("stream", "")).splitlines()
        if "error" in step:
            raise BuildFailed("\n".join([*lines[-20:], str(step["error"])]))


def _digest(base: str | None) -> str:
    """Return a digest of all that a build depends on and that we know."""
    digest = hashlib.sha256((base or "").encode())
    for path in (Path(__file__), *sorted(FOLDER.rglob("*"))):
        if path.is_file() and path.suffix != ".crt":
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _label(client: docker.APIClient, tag: str) -> str | None:
    try:
        labels = _inspect(client, tag)["Config"].get("Labels") or {}
    except ImageNotFound:
        return None
    return labels.get(INPUTS_LABEL)


def _inspect(client: docker.APIClient, image: str) -> dict[str, Any]:
    inspected: dict[str, Any] = client.inspect_image(image)  # type: ignore[no-untyped-call]  # the stubs lack it
    return inspected


def _context() -> io.BytesIO:
    """Return the build context, the machine's own certificate authorities among it."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w:gz") as archive:
        archive.add(FOLDER, arcname=".")
        for certificate in sorted(CERTIFICATES.glob("**/*.crt")):
            archive.add(certificate.resolve(), arcname=f"build-ca/machine-{certificate.name}")
    context.seek(0)
    return context


def _pip_settings() -> dict[str, str]:
    """Return the machine's pip index as build arguments, if it has one of its own."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2].replace("-", "_").upper()
        if option in ("INDEX_URL", "TRUSTED_HOST"):
            settings[f"PIP_{option}"] = value.strip("'\"")
    return settings


def _base(client: docker.APIClient, say: Say) -> str:
    """Return the name of a base image: found, pulled, or made here."""
    with contextlib.suppress(ImageNotFound):
        _inspect(client, BASE)
        return BASE
    wanted = hashlib.sha256(repr((PACKAGES, _suite())).encode()).hexdigest()
    if _label(client, OWN_BASE) == wanted:
        return OWN_BASE
    try:
        say(f"pulling {BASE}")
        client.pull(BASE)
        _inspect(client, BASE)  # a pull reports its failures in its progress only
        return BASE
    except APIError:
        say(f"{BASE} cannot be pulled; making a base from this machine's package sources")
    _bootstrap(client, wanted)
    return OWN_BASE


def _suite() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")


def _bootstrap(client: docker.APIClient, digest: str) -> None:
    """Make a base image with mmdebstrap, with the packages of the image in it."""
    if shutil.which("mmdebstrap") is None:
        raise BuildFailed(f"there is no {BASE} and no registry answers; install mmdebstrap to make a base image here")
    sources = [str(path) for name in APT_SOURCES if (path := Path("/etc/apt", name)).is_file() and path.stat().st_size]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in NOT_IN_A_BASE]
    with subprocess.Popen(
        [*command, _suite(), "-", *sources], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as maker:
        repository, _, tag = OWN_BASE.partition(":")
        client.import_image_from_stream(
            _chunks(maker.stdout), repository=repository, tag=tag, changes=[f"LABEL {INPUTS_LABEL}={digest}"]
        )
    if maker.returncode:
        client.remove_image(OWN_BASE, force=True)
        raise BuildFailed(f"mmdebstrap failed with exit code {maker.returncode}")


def _chunks(stream: Any) -> Iterator[bytes]:
    while data := stream.read(1 << 20):
        yield data


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docker-host", help="the engine to build with; DOCKER_HOST or the usual socket otherwise")
    parser.add_argument("--tag", default=TAG)
    parser.add_argument("--base", help=f"the Debian image to build on; {BASE} or one made here otherwise")
    arguments = parser.parse_args()
    try:
        image = build(arguments.docker_host, tag=arguments.tag, base=arguments.base)
    except BuildFailed as error:
        sys.exit(f"{parser.prog}: {error}")
    print(image)  # noqa: T201 - this is what the command is for


if __name__ == "__main__":
    main()
