"""``clawdspace serve``: a Jupyter server whose only places to run code are spaces.

No terminals of the host, no local kernels, no extensions but ours and JupyterLab, contents in a folder of its own.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_core.paths import jupyter_config_path
from jupyter_server.extension.config import ExtensionConfigManager

from . import paths

PROVISIONER = "clawdspace-provisioner"
#: The extensions that may be loaded; others may run programs on the host, as language servers and proxies do.
EXTENSIONS = ("clawdspace_ext", "jupyterlab")


class SpacesOnly(KernelSpecManager):
    """Knows the kernels that run in spaces, and no other."""

    def find_kernel_specs(self) -> dict[str, str]:
        """Return name -> folder of the kernels in spaces."""
        return {name: folder for name, folder in super().find_kernel_specs().items() if self._is_ours(name)}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return one.  Raises NoSuchKernel for a kernel of the host as well."""
        spec = super().get_kernel_spec(kernel_name)
        if not _in_space(spec):
            raise NoSuchKernel(kernel_name)
        return spec

    def _is_ours(self, name: str) -> bool:
        try:
            self.get_kernel_spec(name)
        except NoSuchKernel:
            return False
        return True


def _in_space(spec: KernelSpec) -> bool:
    provisioner: Mapping[str, Any] = spec.metadata.get("kernel_provisioner", {})
    return provisioner.get("provisioner_name") == PROVISIONER


def arguments(host: str, port: int) -> list[str]:
    """Return the words for ``jupyter server`` that make it such a server; no file of configuration overrides them."""
    notebooks = paths.private_dir(paths.data_dir() / "notebooks")
    has_lab = importlib.util.find_spec("jupyterlab") is not None
    return [
        f"--ServerApp.ip={host}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.open_browser=False",
        "--ServerApp.allow_root=True",  # nothing of the host can be run, so root's server runs nothing as root
        f"--ServerApp.root_dir={notebooks}",
        f"--ServerApp.jpserver_extensions={_extensions(has_lab)!r}",
        f"--ServerApp.default_url={'/lab' if has_lab else '/api/health'}",
        "--ServerApp.terminals_enabled=False",
        "--ServerApp.kernel_spec_manager_class=clawdspace_ext.serve.SpacesOnly",
        "--KernelSpecManager.ensure_native_kernel=False",
        "--MultiKernelManager.default_kernel_name=clawdspace",
        "--LabApp.extension_manager=readonly",
    ]


def _extensions(has_lab: bool) -> dict[str, bool]:
    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    found = manager.get_jpserver_extensions()  # type: ignore[no-untyped-call]  # Jupyter Server has no types there
    return {name: name in EXTENSIONS for name in found} | {"clawdspace_ext": True, "jupyterlab": has_lab}


def environment(caller: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the server's environment with its token, which is API_KEY or a new one, and that token.

    The token is not on the command line, where every user of the machine could read it.
    """
    token = caller.get("API_KEY") or secrets.token_urlsafe(24)
    return {**caller, "JUPYTER_TOKEN": token}, token


def replace_process(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> None:
    """Become another program; this one's output is flushed by its caller."""
    os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606  # a list, and no shell
