"""``clawdspace exec``: streams, exit codes, signals, time limits."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from support.cli import Cli


def test_words_are_run_by_a_shell(cli: Cli, dev: str) -> None:
    assert cli("exec", dev, "echo", "a", "|", "tr a b").stdout == b"b\n"


def test_after_two_dashes_words_are_run_as_they_are(cli: Cli, dev: str) -> None:
    assert cli("exec", dev, "--", "printf", "%s,", "a b", "$HOME", "-x").stdout == b"a b,$HOME,-x,"


def test_options_after_the_name_belong_to_the_command(cli: Cli, dev: str) -> None:
    assert cli("exec", dev, "printf", "%s", "-e").stdout == b"-e"


def test_stdout_and_stderr_stay_apart(cli: Cli, dev: str) -> None:
    ended = cli("exec", dev, "echo out; echo err >&2")

    assert (ended.stdout, ended.stderr) == (b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_passed_on(cli: Cli, dev: str, code: int) -> None:
    assert cli("exec", dev, f"exit {code}").returncode == code


def test_a_command_killed_by_a_signal_answers_128_and_its_number(cli: Cli, dev: str) -> None:
    assert cli("exec", dev, "kill -9 $$").returncode == 137


def test_stdin_is_streamed_byte_for_byte(cli: Cli, dev: str) -> None:
    sent = bytes(range(256)) * 40_000

    assert cli("exec", dev, "cat", stdin=sent).stdout == sent


def test_output_arrives_while_the_command_runs(cli: Cli, dev: str) -> None:
    process = cli.start("exec", dev, "--", "cat")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"ping\n")
    process.stdin.flush()

    assert process.stdout.readline() == b"ping\n"
    process.communicate()
    assert process.returncode == 0


def test_a_reader_that_goes_away_ends_the_command(cli: Cli, dev: str) -> None:
    process = cli.start("exec", dev, "echo $$; exec yes")
    assert process.stdout is not None
    remote = process.stdout.readline().decode().strip()
    process.stdout.close()

    assert process.wait(10) == 128 + signal.SIGPIPE
    deadline = time.monotonic() + 5
    while cli("exec", dev, f"kill -0 {remote}").returncode == 0:
        assert time.monotonic() < deadline
    process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_go_to_the_command(cli: Cli, dev: str, number: signal.Signals, code: int) -> None:
    process = cli.start("exec", dev, "echo ready; exec sleep 100")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)

    process.communicate(timeout=10)
    assert process.returncode == code


def test_a_command_may_survive_a_signal(cli: Cli, dev: str) -> None:
    script = (
        "import signal, time; signal.signal(2, lambda *_: print('caught', flush=True)); print('ready', flush=True); "
    )
    process = cli.start(
        "exec", dev, "--", "python3", "-c", script + "[time.sleep(0.05) for _ in range(20)]; print('end')"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=10)[0] == b"caught\nend\n"
    assert process.returncode == 0


def test_a_signal_reaches_the_whole_process_group(cli: Cli, dev: str) -> None:
    process = cli.start("exec", dev, "sleep 321 & sleep 321 & echo ready; wait")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)

    assert cli("exec", dev, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [3]21'").stdout == b"0\n"


def test_a_time_limit_kills_the_command_and_says_so(cli: Cli, dev: str) -> None:
    ended = cli("exec", "--timeout", "0.3", dev, "echo begun; sleep 100")

    assert (ended.returncode, ended.stdout) == (124, b"begun\n")
    assert b"--timeout" in ended.stderr


def test_the_environment_and_the_folder_can_be_set(cli: Cli, dev: str) -> None:
    ended = cli("exec", "-e", "A=1 2", "-e", "B=", "--cwd", "/tmp", dev, 'printf "%s|%s|%s" "$A" "$B" "$PWD"')

    assert ended.stdout == b"1 2||/tmp"


def test_json_holds_both_outputs_and_the_exit_code(cli: Cli, dev: str) -> None:
    ended = cli("exec", "--json", dev, "cat; echo err >&2; exit 3", stdin=b"in")
    told = json.loads(ended.stdout)

    assert (told["stdout"], told["stderr"], told["exitCode"]) == ("in", "err\n", 3)
    assert ended.returncode == 3


def test_a_command_that_is_not_there_is_reported(cli: Cli, dev: str) -> None:
    ended = cli("exec", dev, "--", "no-such-program")

    assert ended.returncode != 0
    assert b"no-such-program" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_what_a_space_says_in_a_failure_cannot_steer_the_terminal(cli: Cli, dev: str) -> None:
    ended = cli("exec", dev, "--", "no\x1b[31m-such-program")

    assert b"-such-program" in ended.stderr
    assert b"\x1b" not in ended.stderr


def test_without_any_stdin_a_command_sees_its_end(cli: Cli, dev: str) -> None:
    script = 'exec 0<&-; exec "$@"'
    ended = subprocess.run(["sh", "-c", script, "sh", *cli.words("exec", dev, "cat")], env=cli.env, timeout=20)

    assert ended.returncode == 0


def test_a_space_that_is_not_there_is_one_line_and_a_remedy(cli: Cli) -> None:
    ended = cli("exec", "nowhere", "true")

    assert ended.returncode == 1
    assert ended.stderr == b"error: there is no space named nowhere\n  `clawdspace list` shows all\n"


def test_no_command_is_a_usage_error(cli: Cli, dev: str) -> None:
    assert cli("exec", dev).returncode == 2


def test_x_is_short_for_exec(cli: Cli, dev: str) -> None:
    assert cli("x", dev, "--", "echo", "hi").stdout == b"hi\n"
