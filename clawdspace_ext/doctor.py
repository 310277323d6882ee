"""What clawdspace needs, looked at one by one, each with what to do where it is missing."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from . import daemon_process, paths
from .engine_choice import connected_docker, default_image
from .errors import NotFound, SpaceError
from .images.recipes import how_to_get
from .protocols import Capabilities
from .version import __version__


class Verdict(StrEnum):
    """How a check came out; a note is something to know that stops nothing."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything.  Nothing is started or changed."""
    engines = [*asyncio.run(_examine_bubblewrap()), *asyncio.run(_examine_docker())]
    return [_python(), _folders(), *engines, *_verdict_on_engines(engines), *_jupyter(), _daemon()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", Verdict.OK, f"{version} at {sys.executable}; clawdspace {__version__}")


def _folders() -> Finding:
    try:
        data, sockets = paths.data_dir(), paths.runtime_dir()
    except SpaceError as error:
        return _failed("folders", Verdict.WRONG, error)
    return Finding("folders", Verdict.OK, f"data in {data}, sockets in {sockets}")


async def _examine_bubblewrap() -> list[Finding]:
    from .engines.bubblewrap import BubblewrapEngine  # noqa: PLC0415  # each engine is looked at by itself

    with tempfile.TemporaryDirectory() as folder:
        engine = BubblewrapEngine("doctor", Path(folder))
        try:
            found = await engine.capabilities()
        except SpaceError as error:
            return [_failed("bubblewrap", Verdict.NOTE, error)]
        finally:
            await engine.close()
    return [Finding("bubblewrap", Verdict.OK, _described(found)), *_limits(found)]


async def _examine_docker() -> list[Finding]:
    try:
        engine = await connected_docker("doctor")
    except SpaceError as error:
        return [_failed("Docker", Verdict.NOTE, error)]
    try:
        found = await engine.capabilities()
    except SpaceError as error:
        return [_failed("Docker", Verdict.NOTE, error)]
    finally:
        await engine.close()
    findings = [Finding("Docker", Verdict.OK, _described(found)), *_limits(found), await _image(found.facts["host"])]
    if found.facts.get("live_restore") == "false":
        findings.append(
            Finding(
                "Docker live-restore",
                Verdict.NOTE,
                "off: spaces stop when the Docker engine is restarted or updated",
                'put {"live-restore": true} into /etc/docker/daemon.json and reload the engine',
            )
        )
    return findings


async def _image(host: str) -> Finding:
    from .engines.docker.api import DockerApi, image_id  # noqa: PLC0415

    image = default_image()
    api = DockerApi(host)
    try:
        await api.run(lambda client: image_id(client, image))
    except NotFound:
        remedy = f"{how_to_get(image)}; or name another with CLAWDSPACE_IMAGE"
        return Finding("Docker image", Verdict.WRONG, f"{image} is not there", remedy)
    except SpaceError as error:
        return _failed("Docker image", Verdict.WRONG, error)
    finally:
        api.close()
    return Finding("Docker image", Verdict.OK, image)


def _verdict_on_engines(engines: list[Finding]) -> Iterator[Finding]:
    working = [finding for finding in engines if finding.verdict is Verdict.OK and finding.subject in _ENGINES]
    if not working:
        remedy = "start Docker, or install bubblewrap (Debian: apt-get install bubblewrap)"
        yield Finding("engine", Verdict.WRONG, "nothing here can run a space", remedy)


_ENGINES = ("bubblewrap", "Docker")


def _jupyter() -> Iterator[Finding]:
    for subject, check in (("Jupyter extension", _extension), ("Jupyter kernel", _kernel)):
        yield check(subject)


def _extension(subject: str) -> Finding:
    from jupyter_core.paths import jupyter_config_path  # noqa: PLC0415
    from jupyter_server.extension.config import ExtensionConfigManager  # noqa: PLC0415

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    found = manager.get_jpserver_extensions()  # type: ignore[no-untyped-call]  # Jupyter Server has no types there
    if found.get("clawdspace_ext"):
        return Finding(subject, Verdict.OK, "enabled")
    return Finding(subject, Verdict.WRONG, "not enabled", "jupyter server extension enable clawdspace_ext")


def _kernel(subject: str) -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # noqa: PLC0415
    from jupyter_client.provisioning.factory import KernelProvisionerFactory  # noqa: PLC0415

    reinstall = "install clawdspace again: pip install --force-reinstall --no-deps clawdspace"
    try:
        spec = KernelSpecManager().get_kernel_spec("clawdspace")
    except NoSuchKernel:
        return Finding(subject, Verdict.WRONG, "the kernel 'clawdspace' is not installed", reinstall)
    if not KernelProvisionerFactory.instance().is_provisioner_available(spec):
        return Finding(subject, Verdict.WRONG, "its provisioner is not installed", reinstall)
    return Finding(subject, Verdict.OK, f"'clawdspace' in {spec.resource_dir}")


def _daemon() -> Finding:
    subject = "daemon"
    try:
        facts = daemon_process.status()
    except SpaceError as error:
        return _failed(subject, Verdict.WRONG, error)
    if facts is None:
        return Finding(subject, Verdict.OK, "does not run; it is started when it is needed")
    if not Path(facts["python"]).exists():
        detail = f"runs by {facts['python']}, which is no longer there"
        return Finding(subject, Verdict.WRONG, detail, "clawdspace daemon stop; the next use starts a new one")
    return Finding(subject, Verdict.OK, f"version {facts['version']}, process {facts['pid']}")


def _described(found: Capabilities) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in found.facts.items() if value and name != "warnings")
    return f"version {found.version}; {facts}"


def _limits(found: Capabilities) -> Iterator[Finding]:
    if found.not_enforced:
        detail = f"{found.engine} cannot enforce limits here: {', '.join(found.not_enforced)}"
        yield Finding("limits", Verdict.NOTE, detail, "docs/troubleshooting.md says why and what helps")


def _failed(subject: str, verdict: Verdict, error: SpaceError) -> Finding:
    return Finding(subject, verdict, error.message, error.remedy or "")
