"""The agent's files in any image: a read-only volume per image and agent, filled by a short-lived container of it.

The files travel in the container's command line, so neither archives nor folders of the host are involved.  A volume
serves one image only: an image that tampers with it harms nobody but itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound

from ...errors import Unsupported
from ...spaces import MIB
from ..seccomp import MACHINES, filter_program
from .api import CREATE_SECONDS, DockerApi, create_container
from .config import AGENT_FOLDER, SPACE_UID, isolation, volume_mount
from .records import Labels, workspace_volume

#: How much of a command line one argument may take; the kernel's limit is 128 KiB.
_ARGUMENT = 100_000
_HELPER_MEMORY = 256 * MIB
_HELPER_PIDS = 64
_HELPER_SECONDS = 120
_WORKSPACE_IS_FOREIGN = 64
_CONFINE = Path(__file__).with_name("confine.py")
_REASON = 500

# Runs in the image, on whatever Python it has.  Renaming the finished folder into place is what says "complete", so
# that a crash leaves nothing half filled and several at once do no harm.
_FILL = f"""
import sys
if sys.version_info < (3, 8):
    sys.exit("its python3 is %d.%d, and 3.8 is needed" % sys.version_info[:2])
import base64, json, os, py_compile, shutil, tempfile, zlib
top = {AGENT_FOLDER!r}
if not os.path.isdir(top + "/agent"):
    made = tempfile.mkdtemp(dir=top)
    os.mkdir(made + "/agent")
    files = json.loads(zlib.decompress(base64.b64decode("".join(sys.argv[1:]))))
    for name, text in files.items():
        path = made + "/agent/" + name
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        py_compile.compile(path, dfile=top + "/agent/" + name, doraise=True,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    os.sync()
    try:
        os.rename(made + "/agent", top + "/agent")
    except OSError:
        if not os.path.isdir(top + "/agent"):
            raise
    shutil.rmtree(made)
sys.path.insert(0, top)
import agent.confine, agent.main
try:
    owner = os.stat("/workspace").st_uid
except FileNotFoundError:
    owner = None
sys.exit(0 if owner == {SPACE_UID} else {_WORKSPACE_IS_FOREIGN})
"""

_OPEN = "import os; os.chmod('/workspace', 0o777)"


@dataclass(frozen=True, slots=True)
class Fitted:
    """An image that can be a space: where its agent is, and whether its /workspace already belongs to the space."""

    volume: str
    owns_workspace: bool


class AgentFiles:
    """Fits images with the agent found in ``folder``."""

    def __init__(self, api: DockerApi, labels: Labels, folder: Path) -> None:
        self._api = api
        self._labels = labels
        self._folder = folder
        self._fitted: dict[str, Fitted] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def fit(self, image_id: str, image: str) -> Fitted:
        """Make sure that an image has its agent volume.

        Raises Unsupported when the image has no python3 that can run the agent.
        """
        async with self._locks.setdefault(image_id, asyncio.Lock()):
            fitted = self._fitted.get(image_id)
            if fitted is None or not await self._api.run(functools.partial(_exists, volume=fitted.volume)):
                fitted = self._fitted[image_id] = await self._api.run(
                    lambda client: self._fill(client, image_id, image), seconds=CREATE_SECONDS
                )
            return fitted

    async def open_workspace(self, image_id: str, image: str, files_id: str) -> None:
        """Let the space's user write to a new workspace volume, which belongs to root.

        No one else but the connector's user exists in the space, so writable for all is writable for the space.
        """
        helper = Helper(image_id, image, _OPEN)
        mount = volume_mount(workspace_volume(files_id), "/workspace")
        await self._api.run(lambda client: helper.run(client, self._labels, mount), seconds=CREATE_SECONDS)

    def _fill(self, client: APIClient, image_id: str, image: str) -> Fitted:
        remove_stale_helpers(client, self._labels)
        sources = [*sorted(self._folder.glob("*.py")), _CONFINE]
        files = {path.name: path.read_text("utf-8") for path in sources}
        machine = str(client.info()["Architecture"])
        files["forbidden.py"] = f"PROGRAM = {filter_program(machine) if machine in MACHINES else b''!r}\n"
        packed = json.dumps(files).encode()
        agent, short_id = hashlib.sha256(packed).hexdigest()[:8], image_id.removeprefix("sha256:")[:12]
        volume = f"clawdspace-agent-{agent}-{short_id}-{self._labels.install_id[:8]}"
        client.create_volume(volume, labels=self._labels.common("agent"))
        text = base64.b64encode(zlib.compress(packed, 9)).decode()
        arguments = [text[start : start + _ARGUMENT] for start in range(0, len(text), _ARGUMENT)]
        helper = Helper(image_id, image, _FILL, arguments)
        code = helper.run(client, self._labels, volume_mount(volume, AGENT_FOLDER))
        return Fitted(volume, owns_workspace=code != _WORKSPACE_IS_FOREIGN)


@dataclass(frozen=True, slots=True)
class Helper:
    """A script run by an image's python3, as a root without capabilities."""

    image_id: str
    image: str
    script: str
    arguments: Sequence[str] = ()

    def run(self, client: APIClient, labels: Labels, mount: dict[str, Any]) -> int:
        """Return the exit code.  Raises Unsupported with what the script complained of."""
        config = {
            "Image": self.image_id,
            "Entrypoint": ["python3", "-I", "-S", "-c", self.script, *self.arguments],
            "Cmd": [],
            "User": "0:0",
            "WorkingDir": "/",
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": labels.common("helper"),
            "HostConfig": isolation() | {"Mounts": [mount], "Memory": _HELPER_MEMORY, "PidsLimit": _HELPER_PIDS},
        }
        container = create_container(client, config)
        try:
            return self._outcome(client, container)
        finally:
            client.remove_container(container, force=True, v=True)

    def _outcome(self, client: APIClient, container: str) -> int:
        try:
            client.start(container)
        except APIError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST:
                raise self._unfit("it has no python3") from error
            raise
        code = int(client.wait(container, timeout=int(CREATE_SECONDS))["StatusCode"])
        if code not in (0, _WORKSPACE_IS_FOREIGN):
            said = client.logs(container, stdout=False, tail=1).decode(errors="replace")
            raise self._unfit("".join(filter(str.isprintable, said))[:_REASON] or f"python3 ended with code {code}")
        return code

    def _unfit(self, reason: str) -> Unsupported:
        return Unsupported(
            f"the image {self.image} cannot be a space: {reason}", remedy="use an image with python3 3.8 or newer"
        )


def _exists(client: APIClient, volume: str) -> bool:
    """Whether a volume is still there: an engine's ``volume prune`` takes those that no container uses."""
    try:
        client.inspect_volume(volume)
    except NotFound:
        return False
    return True


def remove_stale_helpers(client: APIClient, labels: Labels) -> None:
    """Remove what a crash left of helpers; a living one may be another process's of this installation."""
    stale = time.time() - _HELPER_SECONDS
    for item in client.containers(all=True, filters={"label": labels.of_role("helper")}):
        if item["Created"] < stale:
            with contextlib.suppress(APIError):  # someone else removes it
                client.remove_container(item["Id"], force=True, v=True)
