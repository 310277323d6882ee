"""The verbs of ``protocols.Engine`` on a Docker engine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import Conflict, NotFound, Unavailable, Unsupported
from ...images.recipes import how_to_get
from ...protocols import Capabilities, Stream
from ...spaces import Death, KeptVolume, Space, SpaceRecord, SpaceSpec, SpaceState, Usage
from . import config
from .agent_files import AgentFiles
from .api import CALL_SECONDS, CONNECT_SECONDS, CREATE_SECONDS, DockerApi
from .capabilities import read_info
from .dial import create_connector, start_exec
from .objects import Objects
from .records import Container, Labels, Survey, record_volume, workspace_volume
from .usage import read_usage

AGENT_SOURCES = Path(__file__).resolve().parents[2] / "agent"

_KILLED = 128 + signal.SIGKILL


class DockerEngine:
    """Runs spaces as containers of the Docker engine at ``docker_host``.

    Sees and touches only what carries the labels of ``install_id``.  ``agent_folder`` holds the agent's sources.
    Raises Unsupported for a ``docker_host`` that spaces cannot be reached at.
    """

    name = "docker"

    def __init__(
        self,
        install_id: str,
        *,
        docker_host: str | None = None,
        default_image: str = "clawdspace:latest",
        agent_folder: Path = AGENT_SOURCES,
    ) -> None:
        self._api = DockerApi(docker_host)
        self._labels = Labels(install_id)
        self._objects = Objects(self._api, self._labels)
        self._agent_files = AgentFiles(self._api, self._labels, agent_folder)
        self._default_image = default_image
        self._known_gaps: tuple[str, ...] | None = None
        self._adopting = asyncio.Lock()

    async def connect(self) -> None:
        """Make sure that the engine answers.  Raises Unavailable, within 2 s."""
        await self._api.run(lambda client: client.ping(), seconds=CONNECT_SECONDS)

    async def close(self) -> None:
        """Release sockets and threads; spaces go on."""
        self._api.close()

    async def capabilities(self) -> Capabilities:
        """Say what this engine can do.  Raises Unavailable when it does not answer."""
        info: dict[str, Any] = await self._api.run(lambda client: client.info())
        found = read_info(info, host=self._api.host, default_image=self._default_image)
        self._known_gaps = found.not_enforced
        return found

    # -- making and unmaking -----------------------------------------------------------------------------------------

    async def prepare(self, space_id: str, spec: SpaceSpec, *, adopt: str | None = None) -> None:
        """Make a container and its workspace, not yet started.

        Raises InvalidRequest for an image that is not there, Unsupported for one that cannot be a space or a limit
        that cannot be enforced, Conflict when adopted files are in use, NotFound when there are none, Broken when the
        engine did not isolate the container as asked.
        """
        await self._check_limits(spec)
        found = await self._objects.survey()
        if space_id in found.containers or space_id in found.records:
            raise Conflict(f"there is a space {space_id} already")
        try:
            if adopt is None:
                await self._make(space_id, space_id, spec)
            else:
                async with self._adopting:
                    await self._make(space_id, _adoptable(await self._objects.survey(), adopt), spec)
        except BaseException:
            await asyncio.shield(self.destroy(space_id, remove_files=True))
            raise

    async def _make(self, space_id: str, files_id: str, spec: SpaceSpec) -> None:
        image = spec.image or self._default_image
        image_id = await self._objects.image_id(image, remedy=how_to_get(image))
        fitted = await self._agent_files.fit(image_id, image)
        if files_id == space_id:
            await self._objects.create_volume(workspace_volume(space_id), self._labels.of_workspace(space_id))
            if not fitted.owns_workspace:
                await self._agent_files.open_workspace(image_id, image, space_id)
        asked = config.space_config(
            spec,
            image_id=image_id,
            hostname=space_id,
            mounts=[
                config.volume_mount(workspace_volume(files_id), "/workspace", copy=fitted.owns_workspace),
                config.volume_mount(fitted.volume, config.AGENT_FOLDER, read_only=True),
            ],
            labels=self._labels.of_space(space_id, files_id, image, spec),
        )
        await self._objects.create_container(space_id, asked, await self._gaps())

    async def claim(self, record: SpaceRecord) -> None:
        """Give a prepared container its identity and limits.

        The record is written first and the name taken last: a crash in between leaves something unclaimed.
        Raises Conflict when the name is taken, the space was claimed before, or adopted files belong to someone else.
        """
        await self._check_limits(record.spec)
        container = await self._objects.container(record.id)
        if container.name is not None:
            raise Conflict(f"the space {record.id} was claimed before, as {container.name}")
        stale = await self._records_before(record, container)
        changed = config.limits(record.spec) != config.limits(container.spec)
        try:
            await self._objects.write_record(record, container.files_id)
            if changed:
                await self._objects.update(container.docker_id, config.limits(record.spec))
            await self._objects.rename(container.docker_id, record.name)
        except BaseException:
            await asyncio.shield(self._unclaim(container, changed))
            raise
        await self._objects.remove_volumes(stale)

    async def _unclaim(self, container: Container, changed: bool) -> None:
        await self._objects.remove_volumes([record_volume(container.space_id)])
        if changed:
            await self._objects.update(container.docker_id, config.limits(container.spec))

    async def _records_before(self, record: SpaceRecord, container: Container) -> Sequence[str]:
        """Return the record volumes of earlier spaces of adopted files.  Raises Conflict unless all had this owner."""
        if container.files_id == record.id:
            return []
        known = (await self._objects.survey()).records.values()
        earlier = [old for old, files_id in known if files_id == container.files_id and old.id != record.id]
        if any(old.owner != record.owner for old in earlier):
            raise Conflict("these kept files belong to someone else")
        return [record_volume(old.id) for old in earlier]

    async def destroy(self, space_id: str, *, remove_files: bool) -> None:
        """Remove a container, and its files when told to or when nobody ever claimed it."""
        found = await self._objects.survey()
        container = found.containers.get(space_id)
        if container is not None:
            if container.name is not None and not remove_files and space_id not in found.records:
                await self._objects.write_record(container.fallback, container.files_id)
            await self._objects.remove_container(container)
        await self._objects.remove_volumes(found.to_remove(space_id, remove_files=remove_files))

    # -- what there is -----------------------------------------------------------------------------------------------

    async def list(self) -> Sequence[Space]:
        """Return every claimed space."""
        return (await self._objects.survey()).spaces(self.name, await self._gaps())

    async def orphans(self) -> Sequence[str]:
        """Return the ids of what was prepared, even half, and never claimed."""
        return (await self._objects.survey()).orphans()

    async def kept(self) -> Sequence[KeptVolume]:
        """Return the files that outlived their space."""
        return [*(await self._objects.survey()).kept().values()]

    async def remove_kept(self, space_id: str) -> None:
        """Remove kept files.  Raises NotFound."""
        found = await self._objects.survey()
        if space_id not in found.kept():
            raise NotFound(f"there are no kept files {space_id}")
        await self._objects.remove_volumes(found.volumes_of(found.files_of(space_id)))

    # -- running -----------------------------------------------------------------------------------------------------

    async def start(self, space_id: str) -> None:
        """Start the agent; a paused space runs on."""
        try:
            await self._objects.on(space_id, lambda client, container: client.start(container), seconds=CREATE_SECONDS)
        except Conflict:
            await self.resume(space_id)

    async def pause(self, space_id: str) -> None:
        """Freeze a running space; one that sleeps already, or deeper, stays as it is."""
        try:
            await self._objects.on(space_id, lambda client, container: client.pause(container))
        except (Conflict, Unavailable):
            if await self._state(space_id) is SpaceState.RUNNING:
                raise

    async def resume(self, space_id: str) -> None:
        """Let a paused space run on.  Raises Conflict when it is stopped."""
        try:
            await self._objects.on(space_id, lambda client, container: client.unpause(container))
        except (Conflict, Unavailable) as error:
            state = await self._state(space_id)
            if state is SpaceState.STOPPED:
                raise Conflict(f"the space {space_id} is stopped", remedy="start it") from error
            if state is SpaceState.PAUSED:
                raise

    async def stop(self, space_id: str) -> None:
        """End every process: asked at first, killed after 3 s."""
        await self._objects.on(
            space_id,
            lambda client, container: client.stop(container, timeout=config.STOP_SECONDS),
            seconds=CALL_SECONDS + config.STOP_SECONDS,
        )

    async def dial(self, space_id: str) -> Stream:
        """Open a byte stream to the agent of a running space.  Raises Unavailable, NotFound."""
        try:
            path = await self._objects.on(space_id, create_connector)
        except Conflict as error:
            raise Unavailable(f"the space {space_id} does not run now", remedy="start or resume it") from error
        return await start_exec(self._api.socket, path)

    async def usage(self, space_id: str) -> Usage:
        """Read the counters of a running or paused space.  Raises NotFound."""
        found = await self._objects.on(space_id, read_usage)
        if found is None:
            raise NotFound(f"the space {space_id} is stopped and uses nothing but its files")
        return found

    async def death(self, space_id: str) -> Death | None:
        """Say why the agent of a stopped space ended; None when it runs or never did.

        An engine notes that the memory limit killed something; it was the agent if that ended by SIGKILL.
        """
        state = (await self._objects.inspect(space_id))["State"]
        if state["Running"] or state["Status"] == "created":
            return None
        return Death(exit_code=state["ExitCode"], oom=state["OOMKilled"] and state["ExitCode"] == _KILLED)

    # -- questions ---------------------------------------------------------------------------------------------------

    async def _state(self, space_id: str) -> SpaceState:
        return (await self._objects.container(space_id)).state

    async def _gaps(self) -> tuple[str, ...]:
        """Return the limits this engine cannot enforce."""
        if self._known_gaps is None:
            await self.capabilities()
        return self._known_gaps or ()

    async def _check_limits(self, spec: SpaceSpec) -> None:
        gaps = await self._gaps()
        if spec.require_limits and gaps:
            raise Unsupported(
                f"this Docker engine cannot limit {', '.join(gaps)}",
                field="require_limits",
                remedy="ask without required limits, or enable these cgroup controllers on the machine",
            )


def _adoptable(found: Survey, kept_id: str) -> str:
    """Return the id that names a kept workspace.  Raises Conflict when a space uses it, NotFound."""
    if kept_id in found.kept():
        return found.files_of(kept_id)
    if kept_id in found.containers or kept_id in found.records:
        raise Conflict(f"the files of {kept_id} are in use by a space")
    raise NotFound(f"there are no kept files {kept_id}")
