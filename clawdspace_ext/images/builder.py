"""Building images by the engine's own builder, and telling which there are."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from ..errors import Broken, Unavailable
from .base import INPUTS_LABEL, find_base, inspect, label
from .progress import Progress
from .recipes import RECIPES, Recipe, context, digest

BUILD_SECONDS = 3600  # that the builder may be silent
_BASE_LABEL = "clawdspace.base"
_TOLD = 20  # lines of a build that failed
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_NEWS_OF_THE_BUILDER = re.compile(r" ---> |Removing intermediate container ")
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
#: Known to every builder, which leaves them out of what it makes.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Image:
    """An image of ours on an engine, or without an ``id`` its absence.  A build would leave a ``current`` one alone."""

    recipe: Recipe
    tag: str
    id: str = ""
    size: int = 0
    created: datetime | None = None
    current: bool = False


def build(
    recipe: Recipe,
    progress: Progress,
    *,
    tag: str | None = None,
    base: str | None = None,
    no_cache: bool = False,
) -> Image:
    """Build an image on the engine that DOCKER_HOST names, unless it is there already.

    Raises Unavailable when the engine or the base image cannot be had, Broken with the last lines of a failed build.
    """
    tag = tag or recipe.tag
    with _engine() as client:
        before = _image(client, recipe, tag).id
        if no_cache or label(client, tag, INPUTS_LABEL) != digest(recipe, base):
            _build(client, recipe, tag, base, no_cache, progress)
        built = _image(client, recipe, tag)
        if before not in ("", built.id):
            _remove_nameless(client, before)
        return built


def list_images() -> list[Image]:
    """Return each image that can be built, there or not.  Raises Unavailable."""
    with _engine() as client:
        return [_image(client, recipe, recipe.tag) for recipe in RECIPES]


def _build(
    client: docker.APIClient, recipe: Recipe, tag: str, base: str | None, no_cache: bool, progress: Progress
) -> None:
    found = base or find_base(client, recipe, progress)
    output = client.build(
        fileobj=context(recipe),
        custom_context=True,
        encoding="gzip",
        tag=tag,
        nocache=no_cache,
        buildargs={"BASE": found, "VARIANT": recipe.variant, **_pip_settings(), **_proxies()},
        labels={INPUTS_LABEL: digest(recipe, base), _BASE_LABEL: base or ""},
        network_mode="host",  # the machine's own way to its package index
        rm=True,
        forcerm=True,
        decode=True,
    )
    _follow(output, tag, progress)


def _follow(output: Iterator[dict[str, Any]], tag: str, progress: Progress) -> None:
    last: deque[str] = deque(maxlen=_TOLD)
    for part in output:
        if "error" in part:
            said = "\n".join([*last, str(part["error"])])
            raise Broken(f"{tag} could not be built:\n{said}")
        for line in _COLOURS.sub("", str(part.get("stream", ""))).splitlines():
            step = _STEP.match(line)
            if step:
                progress.step(step[3], int(step[1]), int(step[2]))
            elif line.strip() and not _NEWS_OF_THE_BUILDER.match(line):
                last.append(line)
                progress.line(line)


def _image(client: docker.APIClient, recipe: Recipe, tag: str) -> Image:
    try:
        found = inspect(client, tag)
    except ImageNotFound:
        return Image(recipe, tag)
    labels = found["Config"].get("Labels") or {}
    current = labels.get(INPUTS_LABEL) == digest(recipe, labels.get(_BASE_LABEL))
    return Image(recipe, tag, found["Id"], found["Size"], datetime.fromisoformat(found["Created"]), current)


def _remove_nameless(client: docker.APIClient, image_id: str) -> None:
    """Remove what lost its name to a newer build, unless it has another one or is in use."""
    with contextlib.suppress(APIError):
        if not inspect(client, image_id).get("RepoTags"):
            client.remove_image(image_id)


@contextlib.contextmanager
def _engine() -> Iterator[docker.APIClient]:
    host = os.environ.get("DOCKER_HOST")
    try:
        with contextlib.closing(docker.APIClient(host, timeout=BUILD_SECONDS)) as client:
            client.ping()
            yield client
    except APIError as error:
        raise Broken(f"Docker: {error.explanation or error}") from error
    except (DockerException, requests.RequestException) as error:
        where = host or "the usual socket"
        remedy = "start Docker, or set DOCKER_HOST"
        raise Unavailable(f"no Docker engine answers at {where}: {error}", remedy=remedy) from error


def _pip_settings() -> dict[str, str]:
    """Return the machine's package index as build arguments, if its pip has one of its own."""
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


def _proxies() -> dict[str, str]:
    return {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
