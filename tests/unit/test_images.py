"""What images are built from, wherever clawdspace is installed."""

from __future__ import annotations

import tarfile
import tomllib
from pathlib import Path

import pytest

from clawdspace_ext.images import recipes
from clawdspace_ext.images.recipes import RECIPES, context, digest, how_to_get, recipe_of

ROOT = Path(__file__).parents[2]


def test_everything_that_a_build_needs_is_in_the_wheel_and_no_certificate() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    included = set()
    for source, target in wheel["force-include"].items():
        assert target == f"clawdspace_ext/{source}"
        path = ROOT / source
        included |= {path} if path.is_file() else set(path.iterdir())

    assert included == {path for path in recipes.folder().rglob("*") if path.is_file() and path.suffix != ".crt"}
    assert (ROOT / "images/python/build-ca") not in [ROOT / source for source in wheel["force-include"]]


def test_the_packaged_recipes_come_before_those_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Dockerfile").touch()
    assert recipes.folder() == ROOT / "images" / "python"

    monkeypatch.setattr(recipes, "_PACKAGED", tmp_path)
    assert recipes.folder() == tmp_path


def test_the_context_brings_the_machines_certificates_and_the_digest_leaves_them_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("default", "slim")
    monkeypatch.setattr(recipes, "CERTIFICATES", tmp_path)
    before = digest(recipe, None)
    (tmp_path / "proxy.crt").write_text("a certificate")

    with tarfile.open(fileobj=context(recipe)) as archive:
        names = set(archive.getnames())
    assert {"Dockerfile", "bashrc", "packages/slim", "build-ca/README.md", "build-ca/machine-proxy.crt"} <= names
    assert digest(recipe, None) == before


def test_the_digest_tells_variants_and_bases_apart() -> None:
    digests = {digest(recipe, base) for recipe in RECIPES for base in (None, "debian:trixie-slim")}

    assert len(digests) == 6  # another base is all that sets the one for GPUs apart


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        ("clawdspace:latest", "build it with: clawdspace images build"),
        ("clawdspace:gpu", "build it with: clawdspace images build gpu"),
        ("clawdspace:slim", "build it with: clawdspace images build --variant slim"),
        ("python:3.12", "fetch it with: docker pull python:3.12"),
    ],
)
def test_a_missing_image_comes_with_what_to_type(image: str, remedy: str) -> None:
    assert how_to_get(image) == remedy
