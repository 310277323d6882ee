"""The units in docs/systemd are ones that systemd takes, and the daemon tells systemd when it is ready."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "docs/systemd"
BIN = Path(sys.executable).parent


def sections(unit: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of settings have capitals
    parser.read(UNITS / unit)
    return parser


@pytest.mark.parametrize("unit", ["user/clawdspace-daemon.service", "system/clawdspace-daemon.service"])
def test_spaces_outlive_the_daemons_unit(unit: str) -> None:
    service = sections(unit)["Service"]

    assert (service["KillMode"], service["OOMPolicy"], service["Delegate"]) == ("process", "continue", "yes")
    assert service["Type"] == "notify"


def test_the_servers_unit_gives_it_nothing_it_does_not_need() -> None:
    service = sections("system/clawdspace.service")["Service"]

    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"
    assert "API_KEY" not in service["Environment"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_finds_no_fault(scope: str, tmp_path: Path) -> None:
    units = []
    for unit in sorted((UNITS / scope).iterdir()):
        text = unit.read_text().replace("/opt/clawdspace/bin", str(BIN))
        text = text.replace("%h/.local/share/clawdspace-venv/bin", str(BIN)).replace("User=clawdspace", "User=daemon")
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)
    words = ["systemd-analyze", f"--{scope}", "--man=no", "verify", *map(str, units)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})

    faults = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "clawdspace" in line]
    assert faults == []


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What systemd listens at, and its name in the environment."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@clawdspace-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listener.settimeout(20)
        yield name, listener


def test_the_daemon_says_when_it_is_ready(manager: tuple[str, socket.socket], tmp_path: Path) -> None:
    name, listener = manager
    env = {
        **os.environ,
        "NOTIFY_SOCKET": name,
        "CLAWDSPACE_HOME": str(tmp_path / "home"),
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "CLAWDSPACE_DAEMON_IDLE_S": "inf",
    }
    pipe = subprocess.PIPE
    daemon = subprocess.Popen([sys.executable, "-P", "-m", "clawdspace_ext.daemon"], env=env, stdout=pipe, stderr=pipe)

    assert listener.recv(100) == b"READY=1"
    assert (tmp_path / "home/data/daemon.lock").read_text()
    daemon.terminate()
    daemon.communicate(timeout=10)
    assert daemon.returncode == 0
