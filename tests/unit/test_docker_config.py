"""The container of a space, compared with what the engine made of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from clawdspace_ext.engines.docker.config import AGENT, differences, limits, space_config
from clawdspace_ext.spaces import GIB, SpaceSpec

ASKED = space_config(SpaceSpec(), image_id="sha256:1", hostname="space", mounts=[{"Target": "/workspace"}], labels={})


def inspected() -> dict[str, Any]:
    """Return what an engine tells that did as asked, its kinds of nothing included."""
    config = {key: value for key, value in ASKED.items() if key != "HostConfig"}
    host = {key: value or None for key, value in ASKED["HostConfig"].items()}
    return copy.deepcopy({"Config": config, "HostConfig": host, "NetworkSettings": {"Networks": {"none": {}}}})


def test_an_engine_that_did_as_asked_differs_in_nothing() -> None:
    assert differences(ASKED, inspected(), ()) == []


@pytest.mark.parametrize("field", sorted(ASKED["HostConfig"]))
def test_every_field_of_the_isolation_is_checked(field: str) -> None:
    found = inspected()
    found["HostConfig"][field] = {"some": "thing"} if isinstance(ASKED["HostConfig"][field], dict) else 4711

    assert differences(ASKED, found, ()) == [f"HostConfig.{field}"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("HostConfig", "Privileged"), True),
        (("HostConfig", "CapDrop"), ["NET_RAW"]),
        (("HostConfig", "CapAdd"), ["SYS_ADMIN"]),
        (("HostConfig", "SecurityOpt"), ["no-new-privileges", "seccomp=unconfined"]),
        (("HostConfig", "NetworkMode"), "bridge"),
        (("Config", "User"), "0:0"),
        (("Config", "Entrypoint"), ["sh"]),
        (("NetworkSettings", "Networks"), {"none": {}, "bridge": {}}),
    ],
)
def test_a_weaker_container_is_noticed(path: tuple[str, str], value: object) -> None:
    found = inspected()
    found[path[0]][path[1]] = value

    assert len(differences(ASKED, found, ())) == 1


def test_a_limit_the_engine_cannot_enforce_is_excused() -> None:
    found = inspected()
    found["HostConfig"] |= {"Memory": 0, "MemorySwap": -1}

    assert differences(ASKED, found, ("memory",)) == []
    assert differences(ASKED, found, ("pids",)) == ["HostConfig.Memory", "HostConfig.MemorySwap"]


def test_limits_leave_no_room_for_swap() -> None:
    asked = limits(SpaceSpec(memory=GIB, cpus=1.5))

    assert asked["Memory"] == asked["MemorySwap"] == GIB
    assert asked["CpuQuota"] / asked["CpuPeriod"] == 1.5


def test_the_space_runs_the_agent_as_nobody_special() -> None:
    assert (ASKED["Entrypoint"], ASKED["Cmd"], ASKED["User"]) == (AGENT, [], "1001:1001")
