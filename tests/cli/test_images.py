"""``clawdspace images``, on a real Docker engine."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator

import docker
import pytest

from support.cli import Cli
from support.dockerd import NoDocker, shared_dockerd
from support.terminal import Terminal

TAG = "clawdspace-tests:slim"


@pytest.fixture(scope="module")
def client() -> Iterator[docker.APIClient]:
    """The engine, which has the default image."""
    try:
        host = shared_dockerd().host
    except NoDocker as reason:
        pytest.skip(str(reason))
    with contextlib.closing(docker.APIClient(host, timeout=60)) as client:
        yield client
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.remove_image(TAG)


def archive_of(name: str) -> bytes:
    """Return a system with one file in it, which is empty."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return archive.getvalue()


@pytest.fixture
def cli(client: docker.APIClient) -> Cli:
    return Cli(os.environ | {"DOCKER_HOST": shared_dockerd().host})


@pytest.mark.docker
def test_the_list_tells_what_is_built_and_what_is_not(cli: Cli) -> None:
    listed = cli("images", "list")
    images = {image["image"]: image for image in json.loads(cli("images", "list", "--json").stdout)["images"]}

    assert b"\x1b" not in listed.stdout
    assert listed.stdout.split()[:6] == [b"IMAGE", b"STATE", b"SIZE", b"AGE", b"clawdspace:latest", b"ok"]
    assert images["clawdspace:latest"]["state"] == "ok"
    assert images["clawdspace:latest"]["size"] > 100_000_000
    assert images["clawdspace:gpu-slim"] == images["clawdspace:gpu-slim"] | {
        "state": "not built",
        "id": None,
        "size": None,
    }


@pytest.mark.docker
def test_an_image_that_is_up_to_date_is_not_built_again(cli: Cli, client: docker.APIClient) -> None:
    before = client.inspect_image("clawdspace:latest")["Id"]
    built = cli("images", "build", "--json")

    assert built.returncode == 0, built.stderr
    assert built.stderr == b""
    assert json.loads(built.stdout)["id"] == before


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_a_build_tells_its_steps_and_draws_only_in_a_terminal(cli: Cli, client: docker.APIClient) -> None:
    """A slim one for GPUs, on the base of the other images: the same steps, since NVIDIA's images are large."""
    bases = [tag for image in client.images() for tag in image["RepoTags"] or []]
    base = next(tag for tag in bases if tag.startswith(("clawdspace-base:", "debian:bookworm-slim")))
    build = ("images", "build", "gpu", "--variant", "slim", "--base", base, "--tag", TAG)
    building = cli.start(*build)
    result, steps = building.communicate(timeout=240)  # half a minute, the first time

    assert building.returncode == 0, steps
    assert b"FROM ${BASE} AS system" in steps
    assert b"\x1b" not in steps
    assert result.startswith(f"{TAG} is ready: ".encode())
    config = client.inspect_image(TAG)["Config"]
    assert (config["User"], config["WorkingDir"]) == ("1001:1001", "/workspace")
    client.import_image_from_data(archive_of("older"), repository=TAG.partition(":")[0], tag="slim")
    older = client.inspect_image(TAG)["Id"]
    with Terminal(cli.words(*build), cli.env) as terminal:
        assert terminal.wait(120) == 0
        assert b"\x1b[" in terminal.shown
    assert client.inspect_image(TAG)["Config"]["User"] == "1001:1001"
    with pytest.raises(docker.errors.ImageNotFound):
        client.inspect_image(older)


@pytest.mark.docker
def test_a_build_that_fails_shows_what_the_builder_said_last(cli: Cli, client: docker.APIClient) -> None:
    client.import_image_from_data(archive_of("nothing"), repository="empty")
    built = cli("images", "build", "--base", "empty:latest", "--tag", "clawdspace-tests:broken")

    assert built.returncode == 1
    assert b"error: clawdspace-tests:broken could not be built:" in built.stderr
    assert b"/bin/sh" in built.stderr.splitlines()[-1]


@pytest.mark.docker
def test_a_name_that_no_image_can_have_is_refused_without_a_traceback(cli: Cli) -> None:
    built = cli("images", "build", "--tag", "UP PER")

    assert (built.returncode, b"Traceback" in built.stderr) == (1, False)
    assert built.stderr.startswith(b"error: Docker: ")


def test_without_an_engine_it_says_what_to_do(cli_without_docker: Cli) -> None:
    for command in (["build"], ["list"]):
        ended = cli_without_docker("images", *command)
        assert ended.returncode == 1
        assert b"error: no Docker engine answers at unix:///nowhere/docker.sock" in ended.stderr
        assert b"start Docker, or set DOCKER_HOST" in ended.stderr


def test_an_image_that_does_not_exist_is_a_wrong_command_line(cli_without_docker: Cli) -> None:
    ended = cli_without_docker("images", "build", "golang")

    assert ended.returncode == 2
    assert b"'default', 'gpu'" in ended.stderr


@pytest.fixture
def cli_without_docker() -> Cli:
    return Cli(os.environ | {"DOCKER_HOST": "unix:///nowhere/docker.sock"})
