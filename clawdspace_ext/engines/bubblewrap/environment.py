"""The Python a space works with: the running one, and a writable layer of the space's own over it.

In a space, ``/run/clawdspace/base`` leads to the interpreter's prefix and ``/run/clawdspace/packages`` lists the
folders of installed packages.  The layer at ``/opt/env`` is a virtual environment that names these two only, so it
outlives a move of the host's Python.  The host writes it once, before any program of the space uses it: later its
content is hostile.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INSIDE = Path("/opt/env")
BASE_INSIDE = Path("/run/clawdspace/base")
PACKAGES_INSIDE = Path("/run/clawdspace/packages")
_SITES_INSIDE = Path("/run/clawdspace/site")

_PIP = f"#!{INSIDE}/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
_EXTEND_PATH = (  # virtual environments read their .pth files twice
    f"import sys; sys.path += [p for p in open({str(PACKAGES_INSIDE)!r}).read().splitlines() if p not in sys.path]\n"
)


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter, its ``version`` as in ``3.11``, its ``program`` name in ``base/bin``, and its packages."""

    version: str
    base: Path
    program: str
    packages: tuple[Path, ...]

    @property
    def executable(self) -> Path:
        """The interpreter itself, without any environment."""
        return self.base / "bin" / self.program

    @property
    def mounts(self) -> Mapping[Path, Path]:
        """Which folders of the host a space must see beside /usr, and where; packages may be anywhere."""
        sites = [p for p in self.packages if not p.is_relative_to("/usr") and not p.is_relative_to(self.base)]
        base = {} if self.base.is_relative_to("/usr") else {self.base: self.base}
        return base | {site: _SITES_INSIDE / str(number) for number, site in enumerate(sites)}

    @property
    def packages_inside(self) -> Sequence[Path]:
        """Where a space finds the packages."""
        mounts = self.mounts
        return [mounts.get(folder, folder) for folder in self.packages]

    @property
    def layer_name(self) -> str:
        """What a layer for this Python is called: packages of one version are of no use to another."""
        return f"env-{self.version}"


def running_python() -> Python:
    """Return the Python that runs this code, the packages of its virtual environment included."""
    folders = [Path(folder) for folder in site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(Path(site.getusersitepackages()))
    packages = [folder for folder in folders if folder.is_dir()]
    packages += [linked for folder in packages for linked in _linked_folders(folder)]
    return Python(
        version=f"{sys.version_info.major}.{sys.version_info.minor}",
        base=Path(sys.base_prefix).resolve(),
        program=Path(sys.executable).resolve().name,
        packages=tuple(dict.fromkeys(packages)),
    )


def _linked_folders(folder: Path) -> Iterator[Path]:
    """Yield what the ``.pth`` files of a folder add to the path: the sources of editable installs.

    A folder that holds the user's home, or is it, is more than anybody means to show to a space.
    """
    for pth in sorted(folder.glob("*.pth")):
        for line in pth.read_text(errors="replace").splitlines():
            linked = folder / line.strip()
            names_a_folder = line.strip() and not line.startswith(("import ", "import\t", "#"))
            if names_a_folder and linked.is_dir() and not Path.home().is_relative_to(linked.resolve()):
                yield linked


def write_layer(folder: Path, python: Python, owner: int) -> None:
    """Make a layer at ``folder``, which must not exist, for the user id ``owner``; whole or not at all."""
    unfinished = folder.with_name(f".{folder.name}-{os.urandom(4).hex()}")
    packages = unfinished / "lib" / f"python{python.version}" / "site-packages"
    programs = unfinished / "bin"
    packages.mkdir(parents=True)
    programs.mkdir()
    (unfinished / "lib64").symlink_to("lib")
    (unfinished / "pyvenv.cfg").write_text(
        f"home = {BASE_INSIDE}/bin\ninclude-system-site-packages = false\nversion = {python.version}\n"
    )
    (packages / "_base.pth").write_text(_EXTEND_PATH)
    (programs / "python").symlink_to(BASE_INSIDE / "bin" / python.program)
    for name in ("python3", f"python{python.version}"):
        (programs / name).symlink_to("python")
    for name in ("pip", "pip3"):
        (programs / name).write_text(_PIP)
        (programs / name).chmod(0o755)
    for path in (unfinished, *unfinished.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)
    unfinished.rename(folder)
