"""A newcomer who types every command of the README, top to bottom, in a new installation without Docker."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from support.home import Home
from support.terminal import Terminal

README = Path(__file__).parents[2] / "README.md"
#: What installs or builds, which whoever runs the tests has done.
DONE = ("pip install ", "make ", "clawdspace images build")
#: Commands that serve until they are interrupted.
SERVERS = ("clawdspace lab", "clawdspace serve")


def commands() -> list[str]:
    """Return what the README has people type, without comments and what is done already."""
    blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    typed = [part for line in lines for part in re.sub(r"\s+# .*", "", line).split(" && ")]
    return [command for command in typed if not command.startswith(DONE)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("home", ["bubblewrap"], indirect=True)
def test_every_command_of_the_readme_works_as_it_is_typed(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "newcomer"
    folder.mkdir()
    env = environment(tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import os; os.getcwd()")])
    nbformat.write(notebook, folder / "in.ipynb")
    found = commands()
    assert {"clawdspace quickstart", "clawdspace list", *SERVERS} <= set(found)

    for command in found:
        if command in SERVERS:
            serve_for_a_moment(command, folder, env)
        elif command.startswith("clawdspace shell"):
            use_a_shell(command, env)
        else:
            done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, timeout=120)
            assert done.returncode == 0, (command, done.stdout, done.stderr)

    assert (folder / "out.ipynb").exists()
    assert "/workspace" in (folder / "out.ipynb").read_text()


def environment(folder: Path) -> dict[str, str]:
    """Return a newcomer's environment; the tests may run as root, which JupyterLab wants to be told."""
    config = folder / "jupyter-config"
    config.mkdir()
    settings = {"ServerApp": {"allow_root": True, "open_browser": False, "port": free_port()}}
    (config / "jupyter_server_config.json").write_text(json.dumps(settings))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_TOKEN": "newcomer",
        "PORT": str(free_port()),
        "API_KEY": "newcomer",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve_for_a_moment(command: str, folder: Path, env: dict[str, str]) -> None:
    """Start a server, see that it knows spaces, and interrupt it."""
    settings = json.loads((Path(env["JUPYTER_CONFIG_DIR"]) / "jupyter_server_config.json").read_text())
    port = int(env["PORT"]) if command == "clawdspace serve" else settings["ServerApp"]["port"]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command.split(), cwd=folder, env=env, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while "dev" not in spaces(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def spaces(port: int) -> str:
    """Return what a server tells of its spaces, or nothing if none answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/api/spaces", headers={"Authorization": "Bearer newcomer"})
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def use_a_shell(command: str, env: dict[str, str]) -> None:
    with Terminal(command.split(), env) as terminal:
        terminal.type("echo $((40 + 2))\n")
        terminal.expect("42\r\n")
        terminal.type("exit\n")
        assert terminal.wait() == 0
