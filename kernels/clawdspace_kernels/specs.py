"""A kernel spec for each space, as folders that every Jupyter client finds: Lab, console, nbconvert, papermill."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESOURCES = Path(__file__).parent / "resources" / "sandbox"
PREFIX = "clawdspace-"


class KernelSpecs:
    """The specs below ``data_dir``, a Jupyter data folder.

    Only folders that carry ``install_id`` are ever changed or removed.
    """

    def __init__(self, data_dir: Path, install_id: str) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / "kernels"
        self._install_id = install_id

    def sync(self, spaces: Iterable[str]) -> None:
        """Make the specs be those of ``spaces``, by name.  Raises OSError when the folder cannot be written."""
        wanted = {folder: self._spec(space) for folder, space in spec_names(spaces).items()}
        present = self._present()
        for name in present.keys() - wanted.keys():
            shutil.rmtree(self._folder / name)
        for name, spec in wanted.items():
            if present.get(name) != spec and not self._is_foreign(name, present):
                self._write(name, spec)

    def _spec(self, space: str) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads((RESOURCES / "kernel.json").read_bytes())
        spec["display_name"] = f"Python 3 ({space})"
        spec["metadata"]["kernel_provisioner"]["config"] = {"space": space}
        spec["metadata"]["clawdspace"] = {"space": space, "install": self._install_id}
        return spec

    def _present(self) -> Mapping[str, Any]:
        """Return the specs that are ours, by the name of their folder."""
        found = {}
        for path in self._folder.glob(f"{PREFIX}*/kernel.json"):
            try:
                spec = json.loads(path.read_bytes())
                install = spec["metadata"]["clawdspace"]["install"]
            except (OSError, ValueError, TypeError, KeyError):
                continue  # somebody else's
            if install == self._install_id:
                found[path.parent.name] = spec
        return found

    def _is_foreign(self, name: str, present: Mapping[str, Any]) -> bool:
        return name not in present and (self._folder / name).exists()

    def _write(self, name: str, spec: Mapping[str, Any]) -> None:
        """Put a whole folder in its place: a client that lists specs never sees a part of one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".clawdspace-", dir=self._data_dir) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            shutil.copytree(RESOURCES, new)
            (new / "kernel.json").write_text(json.dumps(spec, indent=2))
            if (self._folder / name).exists():
                (self._folder / name).rename(old)
            new.rename(self._folder / name)


def spec_names(spaces: Iterable[str]) -> dict[str, str]:
    """Return spec name -> space.

    Jupyter knows specs by lower-case names: where two spaces differ in case only, the one in lower case, else the
    first, has the plain name.
    """
    names: dict[str, str] = {}
    for space in sorted(set(spaces), key=lambda space: (space != space.lower(), space)):
        name = PREFIX + space.lower()
        if name in names:
            name += "-" + hashlib.sha256(space.encode()).hexdigest()[:4]
        names[name] = space
    return names
