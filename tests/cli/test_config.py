"""``clawdspace config`` and completion in a shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clawdspace_ext import daemon_process
from support.cli import Cli


def settings(cli: Cli) -> dict[str, tuple[str, str]]:
    shown = json.loads(cli("config", "--json").stdout)["settings"]
    return {setting["name"]: (setting["value"], setting["source"]) for setting in shown}


def test_each_setting_says_where_it_comes_from_and_secrets_are_not_shown(home: Path, tmp_path: Path) -> None:
    file = tmp_path / ".clawdspace"
    file.write_text('# mine\nAPI_KEY="hunter2"\nCLAWDSPACE_HOSTS="one two"\nODD=1\n')
    file.chmod(0o644)
    cli = Cli({**os.environ, "HOME": str(tmp_path), "PORT": "1234", "API_KEY": "hunter3"})

    found = settings(cli)
    table = cli("config")

    assert found["PORT"] == ("1234", "environment")
    assert found["CLAWDSPACE_DAEMON_IDLE_S"] == ("600", "default")
    assert found["CLAWDSPACE_HOSTS"] == ("one two", f"{file}:3")
    assert found["CLAWDSPACE_KEY"] == ("(set, not shown)", f"{file}:2")
    assert found["data folder"] == (str(home / "data"), "environment")
    assert b"hunter" not in table.stdout + table.stderr
    assert b"chmod 600" in table.stderr
    assert b"ODD" in table.stderr


def test_a_bad_line_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".clawdspace").write_text("A=1\nrm -rf /\n")

    failed = Cli({**os.environ, "HOME": str(tmp_path)})("config")

    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {tmp_path}/.clawdspace, line 2: ".encode())


def complete(cli: Cli, line: str) -> list[str]:
    """Return what bash is offered for the last word of a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_CLAWDSPACE_COMPLETE": "bash_complete"}
    done = Cli({**cli.env, **words})()
    assert done.stderr == b""
    return [offer.partition(",")[2] for offer in done.stdout.decode().split()]


def test_names_of_spaces_are_completed(cli: Cli, dev: str) -> None:
    for verb in ("exec", "shell", "stop", "start", "destroy"):
        assert dev in complete(cli, f"clawdspace {verb} d")
        assert complete(cli, f"clawdspace {verb} zz") == []
    assert complete(cli, "clawdspace create d") == []
    assert "destroy" in complete(cli, "clawdspace des")


def test_pressing_tab_starts_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWDSPACE_HOME", str(tmp_path))

    assert complete(Cli(dict(os.environ)), "clawdspace stop d") == []
    assert daemon_process.running() is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script(cli: Cli, shell: str, tmp_path: Path) -> None:
    script = cli("completion", shell)

    assert script.returncode == 0
    assert b"_CLAWDSPACE_COMPLETE" in script.stdout
    if shutil.which(shell):
        (tmp_path / "script").write_bytes(script.stdout)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script(cli: Cli, dev: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(cli("completion", "bash").stdout)
    steps = f"source {tmp_path}/script; COMP_WORDS=(clawdspace stop d); COMP_CWORD=2; _clawdspace_completion clawdspace"
    env = {**cli.env, "PATH": f"{Path(sys.executable).parent}:{cli.env['PATH']}"}
    done = subprocess.run(["bash", "-c", f'{steps}; echo "${{COMPREPLY[@]}}"'], env=env, capture_output=True, text=True)

    assert dev in done.stdout.split(), done.stderr
