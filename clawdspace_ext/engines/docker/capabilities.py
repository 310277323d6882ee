"""What a Docker engine says it can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...protocols import Capabilities

#: limit -> what ``docker info`` must say for the engine to enforce it
_ENFORCED = {"memory": ("MemoryLimit", "SwapLimit"), "cpus": ("CpuCfsPeriod", "CpuCfsQuota"), "pids": ("PidsLimit",)}


def read_info(info: Mapping[str, Any], *, host: str, default_image: str) -> Capabilities:
    """Read the engine's description of itself."""
    facts = {
        "host": host,
        "cgroup": str(info.get("CgroupVersion", "1")),
        "storage": str(info.get("Driver", "")),
        "images": str(info.get("Images", 0)),
        "runtime": str(info.get("DefaultRuntime", "")),
        "live_restore": str(bool(info.get("LiveRestoreEnabled"))).lower(),
        "security": ", ".join(info.get("SecurityOptions") or []),
        "warnings": "; ".join(info.get("Warnings") or []),
    }
    gaps = tuple(limit for limit, fields in _ENFORCED.items() if not all(info.get(field) for field in fields))
    return Capabilities("docker", str(info["ServerVersion"]), default_image, gaps, facts)
