"""The container of a space: everything asked of the engine, and proof that the engine did it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...spaces import MIB, SpaceSpec

AGENT_FOLDER = "/run/clawdspace"
SOCKET_NAME = "clawdspace"
CONNECTOR_UID = 65533
SPACE_UID = 1001
STOP_SECONDS = 3

PIDS = 512
CPU_PERIOD = 100_000  # microseconds, the kernel's default
_RUN_AGENT = (
    "import os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); "
    f'sys.path.insert(0, "{AGENT_FOLDER}"); from agent import confine, forbidden; '
    "confine.confine(forbidden.PROGRAM); from agent.main import main; main()"
)

AGENT = ["python3", "-I", "-S", "-c", _RUN_AGENT, "--listen-abstract", SOCKET_NAME, "--peer-uid", str(CONNECTOR_UID)]
CONNECTOR = ["python3", "-I", "-S", f"{AGENT_FOLDER}/agent/connector.py", SOCKET_NAME]

ENVIRONMENT = {"HOME": "/workspace", "USER": "space", "LANG": "C.UTF-8", "TERM": "xterm-256color"}

#: Fields of HostConfig that hold limits; an engine that cannot enforce one may drop it.
LIMITS = {"memory": ("Memory", "MemorySwap"), "cpus": ("CpuPeriod", "CpuQuota"), "pids": ("PidsLimit",)}


def limits(spec: SpaceSpec) -> dict[str, int]:
    """Return the limits of a spec that can change while a space runs, in the engine's words.

    Swap equal to memory means no swap.  A quota, unlike NanoCpus, may exceed the machine's CPUs.
    """
    return {
        "Memory": spec.memory,
        "MemorySwap": spec.memory,
        "CpuPeriod": CPU_PERIOD,
        "CpuQuota": round(spec.cpus * CPU_PERIOD),
    }


def volume_mount(volume: str, target: str, *, read_only: bool = False, copy: bool = False) -> dict[str, Any]:
    """Return a mount of a named volume; ``copy`` lets an empty one begin with what the image has there."""
    return {
        "Type": "volume",
        "Source": volume,
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": not copy},
    }


def isolation() -> dict[str, Any]:
    """Return the part of HostConfig that keeps a container of ours from everything else, empty fields included."""
    return {
        "NetworkMode": "none",
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "CgroupParent": "",
        "Binds": [],
        "VolumesFrom": [],
        "Devices": [],
        "DeviceRequests": [],
        "DeviceCgroupRules": [],
        "GroupAdd": [],
        "Sysctls": {},
        "PortBindings": {},
        "PublishAllPorts": False,
        "ExtraHosts": [],
        "Dns": ["127.0.0.1"],  # else a space reads the names of the machine's network in resolv.conf
        "DnsSearch": ["."],
        "DnsOptions": [],
        "Links": [],
        "OomKillDisable": False,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "Init": False,  # the agent is process 1 and reaps
        "LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "1", "compress": "false"}},
    }


def space_config(
    spec: SpaceSpec, *, image_id: str, hostname: str, mounts: list[dict[str, Any]], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body of the engine's create request for a space."""
    host = (
        isolation()
        | limits(spec)
        | {
            "Mounts": mounts,
            "Tmpfs": {
                "/tmp": "rw,nosuid,nodev,exec,size=256m,mode=1777",  # noqa: S108 - a mount point inside the space
                "/run": "rw,nosuid,nodev,noexec,size=16m,mode=1777",
            },
            "ShmSize": 64 * MIB,
            "PidsLimit": PIDS,
            "OomScoreAdj": 500,  # spaces die before the machine's own programs
            "Ulimits": [{"Name": "nofile", "Soft": 4096, "Hard": 4096}, {"Name": "core", "Soft": 0, "Hard": 0}],
        }
    )
    return {
        "Image": image_id,
        "Entrypoint": AGENT,
        "Cmd": [],
        "User": f"{SPACE_UID}:{SPACE_UID}",
        "Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        "WorkingDir": "/workspace",
        "Hostname": hostname,
        "Tty": False,
        "OpenStdin": False,
        "StopSignal": "SIGTERM",
        "StopTimeout": STOP_SECONDS,
        "Healthcheck": {"Test": ["NONE"]},  # an image's own check would run in every space for ever
        "Labels": dict(labels),
        "HostConfig": host,
    }


def differences(asked: Mapping[str, Any], inspected: Mapping[str, Any], not_enforced: tuple[str, ...]) -> list[str]:
    """Return the fields that the engine did not set as asked, limits it cannot enforce left out."""
    excused = {field for limit in not_enforced for field in LIMITS[limit]}
    fields = ("Entrypoint", "User", "Tty", "OpenStdin", "StopSignal", "WorkingDir")
    wrong = [field for field in fields if not _same(asked[field], inspected["Config"].get(field))]
    for field, value in asked["HostConfig"].items():
        if field not in excused and not _same(value, inspected["HostConfig"].get(field)):
            wrong.append(f"HostConfig.{field}")
    if set(inspected["NetworkSettings"]["Networks"]) - {"none"}:
        wrong.append("NetworkSettings.Networks")
    return wrong


def _same(asked: object, found: object) -> bool:
    """Compare, taking every kind of nothing for the same: engines answer null, [], {}, "" and false at will."""
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        return all(_same(asked.get(key), found.get(key)) for key in asked.keys() | found.keys())
    if isinstance(asked, list) and isinstance(found, list):
        return len(asked) == len(found) and all(map(_same, asked, found))
    return asked == found or (not asked and not found)
