"""``cp``, ``ps``, ``attach`` and ``stats`` as their users run them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from support.cli import Cli


def test_a_file_goes_there_and_back(cli: Cli, dev: str, tmp_path: Path) -> None:
    content = os.urandom(5_000_000)
    (tmp_path / "a b.bin").write_bytes(content)

    assert cli("cp", str(tmp_path / "a b.bin"), "dev:/dir/").returncode == 0
    assert cli("cp", "dev:/dir/a b.bin", str(tmp_path / "back")).returncode == 0
    assert cli("cp", "dev:dir/a b.bin", ".", cwd=tmp_path).stderr == b""
    shown = cli("cp", "dev:/dir/a b.bin", "-")

    assert (tmp_path / "back").read_bytes() == content == shown.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b.bin", "back"]


def test_stdin_becomes_a_file(cli: Cli, dev: str) -> None:
    assert cli("cp", "-", "dev:/piped", stdin=b"\x00\xff").returncode == 0

    assert cli("exec", "dev", "od -An -tx1 piped").stdout.split() == [b"00", b"ff"]


def test_a_folder_goes_there_and_back(cli: Cli, dev: str, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "in/deep").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "f").write_text("1")
    (source / "in/deep/g").write_text("2")
    (source / "link").symlink_to("/etc")

    assert b"use -r" in cli("cp", str(source), "dev:/").stderr
    assert cli("cp", "-r", str(source), "dev:/").returncode == 0
    cli("exec", "dev", "ln -s /etc/passwd tree/out")
    back = cli("cp", "-r", "dev:/tree", str(tmp_path / "back"))

    assert back.returncode == 0
    assert b"tree/out is no file, and left out" in back.stderr
    found = {str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*")}
    assert found >= {"in", "in/deep", "in/deep/g", "empty", "f"}
    assert "out" not in found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dev:/nope", "."), b"No such file"),
        (("/nowhere/x", "dev:/"), b"cannot read /nowhere/x"),
        (("a", "b"), b"one of the two must be in a space"),
        (("dev:/../../etc/passwd", "."), b"cannot go up"),
        (("-", "dev:/"), b"stdin has no name"),
        (("nowhere:/x", "."), b"no space named nowhere"),
    ],
)
def test_what_cannot_be_copied_is_said(cli: Cli, dev: str, tmp_path: Path, words: tuple[str, ...], said: bytes) -> None:
    failed = cli("cp", *words, cwd=tmp_path)

    assert failed.returncode == 1
    assert said in failed.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_written_to_and_not_replaced(cli: Cli, dev: str) -> None:
    cli("exec", "dev", "echo x > x")

    assert cli("cp", "dev:/x", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_a_command_left_alone_is_found_again(cli: Cli) -> None:
    cli("create", "alone")
    left = cli("exec", "--detach", "alone", "echo out; echo err >&2; sleep 0.5; cat; exit 9")
    process_id = left.stdout.decode().strip()

    (listed,) = json.loads(cli("ps", "alone", "--json").stdout)["processes"]
    table = cli("ps", "alone").stdout
    found = cli("attach", "alone")

    assert listed["id"] == process_id
    assert process_id.encode() in table
    assert (found.stdout, found.stderr, found.returncode) == (b"out\n", b"err\n", 9)
    assert b"nothing runs in alone" in cli("attach", "alone").stderr
    assert b"nothing runs in alone" in cli("ps", "alone").stderr


def test_what_cannot_be_started_is_said_when_left_alone(cli: Cli, dev: str) -> None:
    left = cli("exec", "--detach", "dev", "--", "/no/such/program")

    assert (left.returncode, left.stdout) == (1, b"")
    assert b"/no/such/program" in left.stderr


def test_ctrl_c_leaves_a_followed_command_alone_again(cli: Cli, dev: str) -> None:
    process_id = cli("exec", "-d", "dev", "echo on; sleep 2; exit 3").stdout.decode().strip()
    following = cli.start("attach", "dev", process_id)
    assert following.stdout is not None
    assert following.stdout.readline() == b"on\n"

    following.send_signal(signal.SIGINT)

    assert b"runs on" in following.communicate(timeout=20)[1]
    assert following.returncode == 130
    time.sleep(0.2)
    assert cli("attach", "dev", process_id).returncode == 3


def test_stats_are_shown(cli: Cli, dev: str) -> None:
    stats = json.loads(cli("stats", "dev", "--json").stdout)["stats"]

    assert stats["pids"] >= 1
    assert b"CPU" in cli("stats", "dev").stdout
