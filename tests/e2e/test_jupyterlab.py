"""A notebook in a space, as somebody sees it in JupyterLab."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import requests
from playwright.sync_api import Page, expect

from clawdspace_ext.spaces import MIB, SpaceSpec
from support.browser import NoBrowser, chromium, open_page
from support.home import Home

START = 60.0
CELLS = ["import os\nprint(os.getcwd(), os.path.exists('/run/clawdspace'))", "6 * 7"]


@pytest.fixture
def lab(home: Home) -> Iterator[str]:
    """A JupyterLab with our extension; returns its URL with the token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    quiet = home.folder / "settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    news = {"fetchNews": "false", "checkForUpdates": False}
    (quiet / "notification.jupyterlab-settings").write_text(json.dumps(news))
    (home.folder / "files").mkdir()
    with (home.folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"),
                *(f"--ServerApp.port={port}", f"--IdentityProvider.token={token}"),
                *(
                    f"--ServerApp.root_dir={home.folder / 'files'}",
                    f"--LabApp.user_settings_dir={home.folder / 'settings'}",
                ),
            ],
            env={**os.environ, "JUPYTER_CONFIG_DIR": str(home.folder / "config")},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    wait_for(f"{url}/api/status?token={token}", server, home.folder / "lab.log")
    yield f"{url}/lab/tree/demo.ipynb?token={token}"
    server.terminate()
    server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def write_notebook(folder: Path, kernel: str) -> None:
    """Write demo.ipynb for a kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
    nbformat.write(notebook, folder / "demo.ipynb")


def run_all(page: Page) -> None:
    """Run every cell once the kernel has really answered."""
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext", timeout=60_000)
    page.evaluate(
        """async () => {
          const context = window.jupyterapp.shell.currentWidget.sessionContext;
          await context.ready;
          await context.session.kernel.info;
          await window.jupyterapp.commands.execute('notebook:run-all-cells');
        }"""
    )


def test_a_notebook_runs_in_a_space_and_survives_the_daemon(home: Home, lab: str) -> None:
    try:
        chromium()
    except NoBrowser as reason:
        pytest.skip(str(reason))
    client = home.client()
    client.create("dev", SpaceSpec(memory=512 * MIB))
    write_notebook(home.folder / "files", "clawdspace-dev")
    with open_page() as page:
        page.goto(lab)
        run_all(page)
        outputs = page.locator(".jp-OutputArea-output")
        expect(outputs.nth(0)).to_contain_text("/workspace True", timeout=30_000)
        expect(outputs.nth(1)).to_contain_text("42", timeout=30_000)
        expect(page.locator(".jp-Toolbar-kernelName")).to_contain_text("dev")

        home.kill_daemon()
        client.close()
        client = home.client()
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        expect(page.locator(".jp-InputPrompt").nth(1)).to_have_text("[4]:", timeout=30_000)
        keep = os.environ.get("CLAWDSPACE_SCREENSHOTS")
        if keep:
            page.screenshot(path=f"{keep}/notebook-{home.engine}.png")
    client.close()
