"""Spaces of the image that users get, and of others."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from jupyter_client import KernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from clawdspace_ext.client import SpacesClient
from clawdspace_ext.errors import InvalidRequest
from clawdspace_ext.spaces import MIB, ExecRequest, SpaceSpec
from support.cli import Cli
from support.home import Home

SPEC = SpaceSpec(memory=512 * MIB)
INSTALL = "python3 -m pip install --quiet --no-index --upgrade "


def wheel(name: str, version: str, answer: int) -> bytes:
    """Return a package of one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"answer = {answer}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = io.StringIO()
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.write(f"{path},sha256={digest},{len(text)}\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in (files | {f"{info}/RECORD": f"{record.getvalue()}{info}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return packed.getvalue()


@pytest.fixture
def client(home: Home) -> Iterator[SpacesClient]:
    with contextlib.closing(home.client()) as client:
        yield client


def sh(client: SpacesClient, script: str, stdin: bytes = b"") -> str:
    """Run a script that must succeed in the space dev, and return what it printed."""
    result = client.exec("dev", ExecRequest(("sh", "-c", script), stdin=stdin))
    assert result.exit_code == 0, result
    return result.stdout.decode().strip()


@contextlib.contextmanager
def kernel() -> Iterator[KernelClient]:
    """A kernel in the space dev."""
    deadline = time.monotonic() + 10
    while "clawdspace-dev" not in KernelSpecManager().find_kernel_specs():
        assert time.monotonic() < deadline, "the daemon writes no kernel spec"
        time.sleep(0.05)
    manager = KernelManager(kernel_name="clawdspace-dev")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def put_wheel(client: SpacesClient, name: str, version: str, answer: int) -> str:
    path = f"/tmp/{name}-{version}-py3-none-any.whl"
    sh(client, f"cat > {path}", wheel(name, version, answer))
    return path


def test_what_pip_installs_lasts_and_can_be_upgraded_and_removed(client: SpacesClient) -> None:
    client.create("dev", SPEC)
    sh(client, INSTALL + put_wheel(client, "thing", "1.0", 1))
    client.stop("dev")
    client.start("dev")

    assert sh(client, "python3 -c 'import thing; print(thing.answer)'") == "1"
    sh(client, INSTALL + put_wheel(client, "thing", "2.0", 2))
    assert sh(client, "python3 -c 'import thing; print(thing.answer)'") == "2"
    assert sh(client, "python3 -m pip list --format freeze | grep thing") == "thing==2.0"
    sh(client, "python3 -m pip uninstall --yes --quiet thing")
    assert sh(client, "python3 -c 'import thing' 2>&1 | tail -n 1") == "ModuleNotFoundError: No module named 'thing'"


def test_a_newer_package_takes_the_place_of_one_that_came_with_the_image(client: SpacesClient) -> None:
    """``comm`` is one that ipykernel brought."""
    client.create("dev", SPEC)
    sh(client, INSTALL + put_wheel(client, "comm", "99.0", 99))

    assert sh(client, "python3 -c 'import comm; print(comm.answer)'") == "99"


def test_a_running_kernel_finds_what_is_installed_meanwhile(client: SpacesClient) -> None:
    client.create("dev", SPEC)
    with kernel() as notebook:
        path = put_wheel(client, "thing", "1.0", 1)
        said: list[str] = []
        notebook.execute_interactive(
            f"%pip install --quiet --no-index {path}\nimport thing; print(thing.answer)",
            timeout=60,
            output_hook=lambda message: said.append(message["content"].get("text", "")),
        )

    assert "".join(said).endswith("1\n"), said


@pytest.fixture
def engine(home: Home) -> Iterator[docker.APIClient]:
    """The Docker engine without us in between; skips where spaces are on another."""
    if home.engine != "docker":
        pytest.skip("bubblewrap has no images")
    with contextlib.closing(docker.APIClient(os.environ["DOCKER_HOST"], timeout=60)) as client:
        yield client


def made_of_the_default(engine: docker.APIClient, tag: str, change: str) -> str:
    recipe = f"FROM clawdspace:latest\nUSER 0\nRUN {change}\n".encode()
    progress = engine.build(fileobj=io.BytesIO(recipe), tag=tag, rm=True, network_mode="none", decode=True)
    assert [step for step in progress if "error" in step] == []
    return f"{tag}:latest"


def test_the_default_image_has_what_people_expect(client: SpacesClient, engine: docker.APIClient) -> None:
    client.create("dev", SPEC)
    tools = "python python3 pip node npm npx git curl jq tmux less nano gcc g++ make ps unzip bash"
    built = "echo 'int main(void) { return 0; }' > a.c && make -s a && ./a && echo built"

    assert sh(client, f"for tool in {tools}; do command -v $tool >/dev/null || echo $tool; done") == ""
    assert sh(client, "id -un; id -u; node -e 'console.log(6 * 7)'; npm config get prefix").split() == [
        "space",
        "1001",
        "42",
        "/workspace/.local",
    ]
    assert sh(client, built) == "built"
    assert sh(client, "bash -lc 'echo $PATH'") == sh(client, "echo $PATH")


def test_a_shell_remembers_its_commands_even_when_it_is_killed(client: SpacesClient, engine: docker.APIClient) -> None:
    client.create("dev", SPEC)
    sh(client, "printf 'echo remembered\\nkill -9 $$\\n' | script -qc 'bash -i' /dev/null >/dev/null 2>&1; true")

    assert "echo remembered" in sh(client, "cat /workspace/.bash_history")


def test_no_space_can_put_a_program_before_those_of_the_image(client: SpacesClient, engine: docker.APIClient) -> None:
    client.create("dev", SPEC)

    assert sh(client, "IFS=:; for folder in $PATH; do test -w $folder && echo $folder; done; true") == ""
    sh(
        client,
        "mkdir -p .local/bin && printf '#!/bin/sh\\necho false' > .local/bin/python3 && chmod +x .local/bin/python3",
    )
    assert sh(client, "command -v python3") == "/usr/bin/python3"


def test_a_missing_image_is_named_with_the_command_that_builds_it(
    client: SpacesClient, engine: docker.APIClient
) -> None:
    with pytest.raises(InvalidRequest, match="there is no image clawdspace:gpu-slim here") as caught:
        client.create("dev", SpaceSpec(image="clawdspace:gpu-slim"))

    assert (caught.value.field, caught.value.remedy) == (
        "image",
        "build it with: clawdspace images build gpu --variant slim",
    )


def test_an_image_without_ipykernel_runs_commands_and_says_why_it_has_no_kernel(
    client: SpacesClient, engine: docker.APIClient
) -> None:
    image = made_of_the_default(engine, "bare", "rm -r /usr/local/lib/python3*/dist-packages/ipykernel")
    client.create("dev", SpaceSpec(memory=512 * MIB, image=image))

    assert sh(client, "python3 -c 'print(6 * 7)'") == "42"
    client.request("POST", "/api/space-kernels", {"id": "a-kernel", "ownerPid": os.getpid(), "space": "dev"})
    deadline = time.monotonic() + 20
    while (found := client.request("GET", "/api/space-kernels/a-kernel")["kernel"])["state"] != "dead":
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert "no ipykernel in this image: its python3, /usr/bin/python3, has no module ipykernel" in found["reason"]
    assert "pip install ipykernel" in found["reason"]


def test_where_the_image_is_missing_doctor_and_quickstart_say_how_to_build_it(
    home: Home, engine: docker.APIClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLAWDSPACE_IMAGE", "clawdspace:gpu-slim")
    cli = Cli(dict(os.environ))
    examined = cli("doctor", "--json")
    begun = cli("quickstart", cwd=tmp_path)

    remedy = "build it with: clawdspace images build gpu --variant slim"
    findings = {finding["subject"]: finding for finding in json.loads(examined.stdout)["findings"]}
    assert findings["Docker image"]["verdict"] == "wrong"
    assert findings["Docker image"]["remedy"].startswith(remedy)
    assert f"there is no image clawdspace:gpu-slim here: {remedy}. Using bubblewrap." in begun.stdout.decode()
