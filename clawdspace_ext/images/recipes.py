"""Which images there are, and the folder that each is built from."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import Broken

#: Authorities that the machine trusts beyond the usual ones, such as a proxy's that inspects TLS.
CERTIFICATES = Path("/usr/local/share/ca-certificates")
VARIANTS = ("full", "slim")
_PACKAGED = Path(__file__).resolve().parent / "python"
_CHECKOUT = Path(__file__).resolve().parents[2] / "images" / "python"


@dataclass(frozen=True)
class Recipe:
    """An image that can be built: ``tag``, made on ``base`` unless another base is asked for."""

    name: str
    variant: str
    tag: str
    base: str

    @property
    def command(self) -> str:
        """What to type to have it built."""
        words = ["clawdspace images build"]
        words += [] if self.name == "default" else [self.name]
        words += [] if self.variant == "full" else [f"--variant {self.variant}"]
        return " ".join(words)

    @property
    def packages(self) -> tuple[str, ...]:
        """The system's packages in it."""
        return tuple((folder() / "packages" / self.variant).read_text().split())


_DEBIAN, _CUDA = "debian:bookworm-slim", "nvidia/cuda:12.8.1-base-ubuntu24.04"
RECIPES = (
    Recipe("default", "full", "clawdspace:latest", _DEBIAN),
    Recipe("default", "slim", "clawdspace:slim", _DEBIAN),
    Recipe("gpu", "full", "clawdspace:gpu", _CUDA),
    Recipe("gpu", "slim", "clawdspace:gpu-slim", _CUDA),
)
NAMES = tuple(dict.fromkeys(recipe.name for recipe in RECIPES))


def recipe_of(name: str, variant: str) -> Recipe:
    """Return the recipe of that name and variant, which must be among NAMES and VARIANTS."""
    return next(recipe for recipe in RECIPES if (recipe.name, recipe.variant) == (name, variant))


def how_to_get(image: str) -> str:
    """Return what to do about an image that is not there."""
    for recipe in RECIPES:
        if recipe.tag == image:
            return f"build it with: {recipe.command}"
    return f"fetch it with: docker pull {image}"


def folder() -> Path:
    """Return the folder of the Dockerfile: in the installed package, or in the checkout that it runs from."""
    for found in (_PACKAGED, _CHECKOUT):
        if (found / "Dockerfile").is_file():
            return found
    raise Broken(f"there is no Dockerfile in {_PACKAGED}", remedy="install clawdspace again")


def digest(recipe: Recipe, base: str | None) -> str:
    """Return a digest of all we know that a build depends on; ``base`` is what was asked for instead of its own."""
    found = hashlib.sha256(f"{recipe.variant} {base or recipe.base}\0".encode())
    for path in _sources(recipe):
        found.update(f"{path.name}\0".encode() + path.read_bytes())
    return found.hexdigest()


def context(recipe: Recipe) -> io.BytesIO:
    """Return what the builder gets, as a compressed archive; the machine's own authorities are among it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in [*_sources(recipe), *sorted(folder().glob("build-ca/*"))]:
            archive.add(path, arcname=str(path.relative_to(folder())), recursive=False)
        for certificate in sorted(CERTIFICATES.glob("**/*.crt")):
            archive.add(certificate.resolve(), arcname=f"build-ca/machine-{certificate.name}")
    packed.seek(0)
    return packed


def _sources(recipe: Recipe) -> Iterator[Path]:
    for name in ("Dockerfile", "bashrc", f"packages/{recipe.variant}"):
        yield folder() / name
