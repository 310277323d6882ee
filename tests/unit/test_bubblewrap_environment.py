"""The Python a space works with."""

from __future__ import annotations

import os
import site
from pathlib import Path

import pytest

from clawdspace_ext.engines.bubblewrap.environment import Python, running_python, write_layer


def python_with(*packages: Path) -> Python:
    return Python("3.12", Path("/opt/python"), "python3.12", packages)


def test_the_running_python_is_found_with_its_packages() -> None:
    found = running_python()

    assert found.executable.exists()
    assert any((folder / "pytest").is_dir() for folder in found.packages)


def test_sources_of_editable_installs_are_packages_but_a_home_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, project, home = tmp_path / "packages", tmp_path / "project", tmp_path / "homes" / "ann"
    for folder in (packages, project, home):
        folder.mkdir(parents=True)
    lines = ["# a comment", "import sys", str(project), str(home), str(home.parent), "/", "not-there", "", "../project"]
    (packages / "some.pth").write_text("\n".join(lines))
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(packages), str(tmp_path / "missing")])
    monkeypatch.setattr(site, "ENABLE_USER_SITE", False)
    monkeypatch.setenv("HOME", str(home))

    assert running_python().packages == (packages, project, packages / "../project")


def test_packages_outside_of_what_is_seen_anyway_are_mounted_without_their_paths() -> None:
    python = python_with(Path("/usr/lib/x"), Path("/home/ann/venv/packages"), Path("/opt/python/lib/x"))

    assert python.mounts == {
        Path("/opt/python"): Path("/opt/python"),
        Path("/home/ann/venv/packages"): Path("/run/clawdspace/site/0"),
    }
    assert python.packages_inside == [
        Path("/usr/lib/x"),
        Path("/run/clawdspace/site/0"),
        Path("/opt/python/lib/x"),
    ]


def test_a_layer_is_a_virtual_environment_that_names_no_path_of_the_host(tmp_path: Path) -> None:
    layer = tmp_path / "env-3.12"
    write_layer(layer, python_with(Path("/home/ann/venv/packages")), os.getuid())

    assert (layer / "bin" / "python3.12").readlink() == Path("python")
    assert (layer / "bin" / "python").readlink() == Path("/run/clawdspace/base/bin/python3.12")
    assert (layer / "pyvenv.cfg").read_text().startswith("home = /run/clawdspace/base/bin\n")
    assert (layer / "bin" / "pip").stat().st_mode & 0o111
    texts = [path.read_text() for path in layer.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any("/home" in text for text in texts)
    assert list(tmp_path.iterdir()) == [layer]
