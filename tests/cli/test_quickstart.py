"""``clawdspace quickstart``: a notebook really executed in a space, and a space to go on with."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat

from support.cli import Cli


def test_it_executes_a_notebook_in_a_space_and_leaves_both(cli: Cli, tmp_path: Path) -> None:
    ended = cli("quickstart", cwd=tmp_path)

    assert ended.returncode == 0, ended
    assert b"quickstart, on bubblewrap" in ended.stdout
    notebook = nbformat.read(tmp_path / "quickstart.ipynb", as_version=4)
    outputs = [output.text for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "host name  quickstart" in outputs[0]
    internet, machine, network = outputs[-1].splitlines()
    assert internet.startswith("the internet")
    assert "is not: Tunnel connection failed: 403 Forbidden: 127.0.0.1:22 is not on the public internet" in machine
    assert network.startswith("its network        is not: Tunnel connection failed: 403")
    assert notebook.metadata.kernelspec.name == "clawdspace-quickstart"
    assert cli("exec", "quickstart", "wc -l < walks.csv").stdout.strip() == b"601"
    cli("destroy", "-f", "--remove-volume", "quickstart")


def test_nothing_that_is_there_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    cli("create", "quickstart")
    (tmp_path / "quickstart-2.ipynb").write_text("mine")

    ended = cli("quickstart", cwd=tmp_path)

    assert ended.returncode == 0, ended
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quickstart-2-2.ipynb", "quickstart-2.ipynb"]
    assert (tmp_path / "quickstart-2.ipynb").read_text() == "mine"
    listed = json.loads(cli("list", "--json").stdout)["spaces"]
    assert {"quickstart", "quickstart-2"} <= {space["name"] for space in listed}
    for name in ("quickstart", "quickstart-2"):
        cli("destroy", "-f", "--remove-volume", name)
