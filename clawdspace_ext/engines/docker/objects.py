"""The containers, volumes and images of one installation in a Docker engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from docker import APIClient

from ...errors import Broken, Conflict, InvalidRequest, NotFound
from ...spaces import SpaceRecord
from . import config
from .api import CALL_SECONDS, CREATE_SECONDS, DockerApi, create_container, image_id
from .records import Container, Labels, Survey, read_container, record_volume, survey

T = TypeVar("T")


class Objects:
    """Finds, makes and removes what carries the installation's labels, and nothing else.

    Docker's id of a container never changes, its name does: the ids seen last are remembered.
    """

    def __init__(self, api: DockerApi, labels: Labels) -> None:
        self._api = api
        self._labels = labels
        self._docker_ids: dict[str, str] = {}

    async def survey(self) -> Survey:
        """Return all there is, from two calls to the engine however many spaces there are.

        Containers come first: a space is claimed after its record is written, so it is never seen without one.
        """
        filters = {"label": self._labels.all}
        containers, volumes = await self._api.run(
            lambda client: (client.containers(all=True, filters=filters), client.volumes(filters=filters)["Volumes"])
        )
        found = survey(self._labels, containers, volumes or [])
        self._docker_ids = {space_id: container.docker_id for space_id, container in found.containers.items()}
        return found

    async def container(self, space_id: str) -> Container:
        """Return one space's container as the engine lists it now.  Raises NotFound."""
        filters = {"label": self._labels.one(space_id)}
        for item in await self._api.run(lambda client: client.containers(all=True, filters=filters)):
            if (container := read_container(self._labels, item)) is not None:
                self._docker_ids[space_id] = container.docker_id
                return container
        raise NotFound(f"there is no space {space_id}")

    async def on(self, space_id: str, call: Callable[[APIClient, str], T], *, seconds: float = CALL_SECONDS) -> T:
        """Return ``call(client, docker_id)`` for a space's container.  Raises NotFound."""
        docker_id = self._docker_ids.get(space_id) or (await self.container(space_id)).docker_id
        try:
            return await self._api.run(lambda client: call(client, docker_id), seconds=seconds)
        except NotFound:
            self._docker_ids.pop(space_id, None)
            raise

    async def inspect(self, space_id: str) -> dict[str, Any]:
        """Return everything the engine knows of a space's container.  Raises NotFound."""
        return await self.on(space_id, lambda client, container: client.inspect_container(container))

    async def create_container(self, space_id: str, asked: dict[str, Any], not_enforced: tuple[str, ...]) -> None:
        """Make the container of a space nobody has claimed.  Raises Broken when it is not what was asked."""
        name = self._labels.prepared_name(space_id)
        self._docker_ids[space_id] = await self._api.run(
            lambda client: create_container(client, asked, name), seconds=CREATE_SECONDS
        )
        if wrong := config.differences(asked, await self.inspect(space_id), not_enforced):
            raise Broken(
                f"the Docker engine made a container that is not isolated as asked: {', '.join(wrong)} differ",
                remedy="look for defaults of the Docker engine that override these fields",
            )

    async def remove_container(self, container: Container) -> None:
        """End and remove a container, and the volumes without a name that its image asked for."""
        await self._api.run(
            lambda client: client.remove_container(container.docker_id, force=True, v=True), seconds=CREATE_SECONDS
        )
        self._docker_ids.pop(container.space_id, None)

    async def rename(self, docker_id: str, name: str) -> None:
        """Take a space's name, which nobody else can have then.  Raises Conflict when somebody has it."""
        try:
            await self._api.run(lambda client: client.rename(docker_id, self._labels.claimed_name(name)))
        except Conflict as error:
            raise Conflict(
                f"there is a space {name} already", field="name", remedy="choose another name, or destroy that space"
            ) from error

    async def update(self, docker_id: str, limits: Mapping[str, int]) -> None:
        """Change the limits of a container, running or not."""
        await self._api.run(
            lambda client: client.update_container(
                docker_id,
                mem_limit=limits["Memory"],
                memswap_limit=limits["MemorySwap"],
                cpu_period=limits["CpuPeriod"],
                cpu_quota=limits["CpuQuota"],
            )
        )

    async def write_record(self, record: SpaceRecord, files_id: str) -> None:
        """Write who a space is.  Raises Conflict when another record is there."""
        await self.create_volume(record_volume(record.id), self._labels.of_record(record, files_id))

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume; one that is there with the same labels will do.  Raises Conflict."""
        made = await self._api.run(lambda client: client.create_volume(name, labels=dict(labels)))
        if made.get("Labels") != labels:
            raise Conflict(f"there is a Docker volume {name} already, and it is not what it should be")

    async def remove_volumes(self, names: Iterable[str]) -> None:
        """Remove volumes, in order; those that are not there are no error."""
        for name in names:
            try:
                await self._api.run(functools.partial(APIClient.remove_volume, name=name))
            except NotFound:
                continue

    async def image_id(self, image: str, *, remedy: str) -> str:
        """Return the id of an image.  Raises InvalidRequest with ``remedy`` when it is not here."""
        try:
            return await self._api.run(lambda client: image_id(client, image))
        except (NotFound, InvalidRequest) as error:
            raise InvalidRequest(f"there is no image {image} here", field="image", remedy=remedy) from error
