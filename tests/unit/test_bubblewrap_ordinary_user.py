"""Spaces of an ordinary user, tried by root in the shoes of one: the system's Python, no control groups, no rights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clawdspace_ext

PYTHON = "/usr/bin/python3"
UID = 54321

STORY = r"""
import asyncio, json, sys
from datetime import UTC, datetime
from pathlib import Path
from clawdspace_ext.engines.bubblewrap import BubblewrapEngine
from clawdspace_ext.errors import SpaceError, Unsupported
from clawdspace_ext.link import Link
from clawdspace_ext.processes import start_process
from clawdspace_ext.spaces import ExecRequest, SpaceRecord, SpaceSpec

ID, OTHER = "00000000000a", "00000000000b"

async def main(home):
    engine = BubblewrapEngine("user-tests", home)
    told = {"gaps": (await engine.capabilities()).not_enforced}
    await engine.prepare(ID, SpaceSpec())
    await engine.claim(SpaceRecord(ID, "dev", "ann", SpaceSpec(), datetime.now(UTC)))
    await engine.prepare(OTHER, SpaceSpec())
    try:
        await engine.claim(SpaceRecord(OTHER, "strict", "ann", SpaceSpec(require_limits=True), datetime.now(UTC)))
    except Unsupported as refused:
        told["strict"] = refused.message
    await engine.start(ID)
    link = Link(lambda: engine.dial(ID), "dev")

    async def relink():
        return link

    async def sh(script):
        process = await start_process(link, script, ExecRequest(("sh", "-c", script)), relink, stdin=False)
        return (await process.collect()).stdout.decode()

    told["id"] = await sh("id -u; cat /proc/self/status; ls -A / /home 2>&1; touch file")
    told["denied"] = await sh("for p in / /usr /etc /dev /run /opt; do test -w $p && echo $p; done; unshare -U true || echo no namespace")
    told["owner"] = (home / "volumes" / ID / "workspace" / "file").stat().st_uid
    told["usage"] = (await engine.usage(ID)).pids
    await link.close()
    states = []
    for verb in (engine.pause, engine.resume, engine.stop):
        await verb(ID)
        other = BubblewrapEngine("user-tests", home)
        states.append((await other.list())[0].state)
        await other.close()
    told["states"] = states
    (home / "volumes" / ID / "workspace" / "closed").mkdir(mode=0)
    for space_id in (ID, OTHER):
        await engine.destroy(space_id, remove_files=True)
    told["left"] = sorted(path.name for folder in ("spaces", "volumes") for path in (home / folder).iterdir())
    await engine.close()
    print(json.dumps(told))

try:
    asyncio.run(main(Path(sys.argv[1])))
except SpaceError as error:
    print(json.dumps({"error": str(error)}))
"""  # noqa: E501  # one step a line


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the user's own that holds a copy of our sources, for ours may be where only root can go."""
    folder = Path(tempfile.mkdtemp(prefix="clawdspace-user-", dir="/tmp"))
    source = Path(clawdspace_ext.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", ".*", "labextension"))
    subprocess.run(["chown", "-R", f"{UID}:{UID}", folder], check=True)
    yield folder
    shutil.rmtree(folder)


def old(python: str) -> bool:
    check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return not Path(python).exists() or subprocess.run(check, check=False).returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(old(PYTHON), reason=f"{PYTHON} is not Python 3.11 or newer")
def test_an_ordinary_user_has_spaces_without_any_rights(home: Path) -> None:
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    done = subprocess.run(
        [*become, PYTHON, "-c", STORY, str(home / "data")],
        cwd=home,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    if "user namespaces" in told.get("error", ""):
        pytest.skip(told["error"])

    assert told["id"].startswith("1001\n")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in told["id"]
    assert "cannot access '/home'" in told["id"]
    assert told["denied"] == "no namespace\n"
    assert told["owner"] == UID
    assert told["usage"] >= 1
    assert told["states"] == ["paused", "running", "stopped"]
    assert told["gaps"] == ["memory", "cpus", "pids"]
    assert "memory, cpus, pids" in told["strict"]
    assert told["left"] == []
