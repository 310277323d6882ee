"""``clawdspace shell`` and ``exec --tty`` in a terminal."""

from __future__ import annotations

import signal
import termios

from support.cli import Cli
from support.terminal import Terminal


def test_a_shell_is_a_login_shell_in_the_workspace_with_our_size(cli: Cli, dev: str) -> None:
    with Terminal(cli.words("shell", dev), {**cli.env, "TERM": "vt100"}) as terminal:
        terminal.type("echo at=$PWD term=$TERM size=$(stty size) flags=$-.\n")

        terminal.expect("at=/workspace term=vt100 size=37 91 flags=")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5


def test_the_terminal_is_as_it_was_when_the_shell_has_ended(cli: Cli, dev: str) -> None:
    with Terminal(cli.words("shell", dev), cli.env) as terminal:
        terminal.type("echo rea''dy\n")
        terminal.expect("ready")
        assert termios.tcgetattr(terminal.slave) != terminal.modes
        terminal.type("exit\n")
        terminal.wait()

        assert termios.tcgetattr(terminal.slave) == terminal.modes


def test_a_new_size_is_passed_on(cli: Cli, dev: str) -> None:
    with Terminal(cli.words("shell", dev), cli.env) as terminal:
        terminal.type("echo rea''dy\n")
        terminal.expect("ready")
        for cols in range(100, 121):
            terminal.resize(cols, 50)
            terminal.process.send_signal(signal.SIGWINCH)
        terminal.type("sleep 0.2; stty size\n")

        terminal.expect("50 120")
        terminal.type("exit\n")
        terminal.wait()


def test_the_interrupt_key_reaches_the_command_and_not_us(cli: Cli, dev: str) -> None:
    with Terminal(
        cli.words("exec", "-t", dev, "--", "sh", "-c", "trap 'echo caught; exit 9' INT; echo go; sleep 100"), cli.env
    ) as terminal:
        terminal.expect("go")
        terminal.type("\x03")

        terminal.expect("caught")
        assert terminal.wait() == 9


def test_without_tty_the_interrupt_key_ends_the_command(cli: Cli, dev: str) -> None:
    with Terminal(cli.words("exec", dev, "echo go; exec sleep 100"), cli.env) as terminal:
        terminal.expect("go")
        terminal.type("\x03")

        assert terminal.wait() == 130


def test_without_tty_a_command_does_not_wait_for_our_keys(cli: Cli, dev: str) -> None:
    with Terminal(cli.words("exec", dev, "cat; echo end"), cli.env) as terminal:
        terminal.expect("end")

        assert terminal.wait() == 0


def test_a_command_has_a_terminal_only_when_asked(cli: Cli, dev: str) -> None:
    assert cli("exec", dev, "test -t 1").returncode == 1
    with Terminal(cli.words("exec", "-t", dev, "test -t 0 && test -t 1"), cli.env) as terminal:
        assert terminal.wait() == 0


def test_destroying_asks_first(cli: Cli) -> None:
    cli("create", "asked")
    with Terminal(cli.words("destroy", "asked"), cli.env) as terminal:
        terminal.expect("files are kept")
        terminal.type("n\n")
        assert terminal.wait() == 1
    assert b"asked" in cli("list").stdout

    with Terminal(cli.words("destroy", "asked", "--remove-volume"), cli.env) as terminal:
        terminal.expect("removed for good")
        terminal.type("y\n")
        assert terminal.wait() == 0
    assert b"asked" not in cli("list").stdout


def test_a_table_has_colours_in_a_terminal_only(cli: Cli, dev: str) -> None:
    with Terminal(cli.words("list"), {**cli.env, "TERM": "xterm-256color"}) as terminal:
        terminal.wait()
        terminal.expect("\x1b[32mrunning")
    assert b"\x1b" not in cli("list").stdout
