"""Commands on spaces and on the files they leave."""

from __future__ import annotations

import json

from support.cli import Cli


def test_a_new_space_runs_and_is_listed(cli: Cli) -> None:
    made = cli("create", "fresh", "-m", "256m", "-c", "0.5", "-e", "A=b")

    assert made.stdout == b"fresh is running on bubblewrap, 256 MB of memory, 0.5 CPUs\n"
    listed = [line.split()[:3] for line in cli("ls").stdout.decode().splitlines()]
    assert ["fresh", "running", "bubblewrap"] in listed
    assert cli("exec", "fresh", "echo $A").stdout == b"b\n"
    cli("destroy", "-f", "--remove-volume", "fresh")


def test_json_is_what_the_api_answers(cli: Cli, dev: str) -> None:
    made = json.loads(cli("create", "shown", "--json").stdout)
    listed = json.loads(cli("list", "--json").stdout)

    assert made["space"]["name"] == "shown"
    assert made["space"]["id"] in [space["id"] for space in listed["spaces"]]
    assert dev in [space["name"] for space in listed["spaces"]]
    cli("destroy", "-f", "--remove-volume", "shown")


def test_a_network_is_chosen(cli: Cli) -> None:
    for network, proxy in (("internet", b"http://127.0.0.1:3128\n"), ("none", b"\n")):
        made = json.loads(cli("create", network, "--network", network, "--json").stdout)

        assert made["space"]["network"] == network
        assert cli("exec", network, "echo $https_proxy").stdout == proxy
        cli("destroy", "-f", "--remove-volume", network)
    refused = cli("create", "odd", "--network", "bridge")
    assert (refused.returncode, b"'internet'" in refused.stderr) == (2, True)


def test_an_empty_list_says_how_to_go_on(cli: Cli) -> None:
    assert cli("volumes").stdout == b""
    assert cli("volumes").stderr == b"no files are kept\n"


def test_a_space_sleeps_halts_and_wakes(cli: Cli) -> None:
    cli("create", "sleeper")

    told = [cli(*words, "sleeper").stdout for words in (["stop"], ["stop"], ["start"], ["stop", "--halt"], ["start"])]

    assert [line.split()[-1] for line in told] == [b"paused", b"paused", b"running", b"stopped", b"running"]
    cli("destroy", "-f", "--remove-volume", "sleeper")


def test_files_of_a_destroyed_space_are_kept_to_be_adopted_or_removed(cli: Cli) -> None:
    cli("create", "keeper")
    cli("exec", "keeper", "echo precious > file")

    destroyed = cli("destroy", "-f", "keeper")
    assert b"--adopt-volume" in destroyed.stderr
    assert cli("create", "keeper").returncode == 0
    assert cli("exec", "keeper", "cat file").returncode == 1
    cli("destroy", "-f", "--remove-volume", "keeper")

    assert cli("create", "keeper", "--adopt-volume").returncode == 0
    assert cli("exec", "keeper", "cat file").stdout == b"precious\n"
    cli("destroy", "-f", "keeper")
    kept = json.loads(cli("volumes", "--json").stdout)["volumes"]
    assert [volume["name"] for volume in kept] == ["keeper"]
    assert cli("volumes", "rm", kept[0]["id"]).returncode == 0
    assert json.loads(cli("volumes", "--json").stdout)["volumes"] == []


def test_nobody_to_ask_is_an_error_and_destroys_nothing(cli: Cli, dev: str) -> None:
    refused = cli("destroy", dev)

    assert (refused.returncode, refused.stderr) == (1, b"error: nobody can be asked here\n  use -f\n")
    assert cli("exec", dev, "true").returncode == 0


def test_failures_are_a_line_and_a_remedy(cli: Cli, dev: str) -> None:
    for words in (
        ["create", dev],
        ["create", "-x"],
        ["create", "a/b"],
        ["create", "fine", "-m", "lots"],
        ["create", "fine", "-e", "NOT_SET_HERE"],
        ["create", "fine", "--engine", "warp"],
        ["start", "nowhere"],
        ["destroy", "-f", "nowhere"],
        ["volumes", "rm", "000000000000"],
    ):
        failed = cli(*words)
        lines = failed.stderr.decode().splitlines()
        if words[1] == "-x":
            assert failed.returncode == 2
            continue
        assert (failed.returncode, failed.stdout, len(lines)) == (1, b"", 2), (words, failed)
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("  ")
