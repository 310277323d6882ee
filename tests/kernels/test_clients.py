"""Unmodified Jupyter programs with a kernel in a space: jupyter_client, nbclient, papermill, jupyter execute."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import papermill
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from support.kernels import Host

NOTEBOOK = ["import os\nx = 20 + 1", "print(2 * x)", "os.path.basename(os.getcwd())"]

#: What asyncio says of sockets that jupyter_client leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def notebook(*cells: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells or NOTEBOOK])


def texts(executed: nbformat.NotebookNode) -> list[str]:
    return [out.get("text") or out["data"]["text/plain"] for cell in executed.cells for out in cell.get("outputs", [])]


def spaces(daemon: Host) -> list[str]:
    """Ask the engine, which lives in the daemon's thread, in a way that needs no loop."""
    return [space.name for space in asyncio.run(daemon.engine.list())]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def manager(daemon: Host) -> Iterator[KernelManager]:
    """A kernel in dev."""
    manager = KernelManager(kernel_name="clawdspace-dev")
    manager.start_kernel()
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


@pytest.fixture
def client(manager: KernelManager) -> Iterator[BlockingKernelClient]:
    """A client of it that is ready."""
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=30)
    yield client
    client.stop_channels()


def answer(client: BlockingKernelClient, code: str) -> str:
    text: list[str] = []
    client.execute_interactive(code, output_hook=lambda m: text.append(m["content"].get("text", "")), timeout=20)
    return "".join(text)


def test_the_specs_are_found(daemon: Host) -> None:
    specs = KernelSpecManager().get_all_specs()
    assert specs["clawdspace"]["spec"]["display_name"] == "Python 3 (sandbox)"
    assert specs["clawdspace-dev"]["spec"]["display_name"] == "Python 3 (dev)"


def test_a_manager_starts_restarts_and_shuts_down(manager: KernelManager, client: BlockingKernelClient) -> None:
    assert answer(client, "x = 1\nprint('first')") == "first\n"
    manager.restart_kernel(now=False)
    assert answer(client, "print('x' in globals())") == "False\n"
    manager.restart_kernel(now=True)
    assert answer(client, "print('third')") == "third\n"
    manager.shutdown_kernel()
    assert not manager.is_alive()


def test_a_manager_interrupts(manager: KernelManager, client: BlockingKernelClient) -> None:
    client.execute("import time\ntime.sleep(60)")
    time.sleep(0.5)
    manager.interrupt_kernel()
    assert client.get_shell_msg(timeout=10)["content"]["ename"] == "KeyboardInterrupt"


def test_a_manager_notices_a_death(
    manager: KernelManager, client: BlockingKernelClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    until(lambda: not manager.is_alive())
    assert "killed by signal 9 (SIGKILL)" in caplog.text


def test_nothing_of_the_clients_environment_reaches_the_space(daemon: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent of dev, started before, has the daemon's in this engine without isolation."""
    monkeypatch.setenv("SECRET_OF_THE_CLIENT", "1")
    executed = NotebookClient(
        notebook("import os\nprint(os.environ.get('SECRET_OF_THE_CLIENT'))"), kernel_name="clawdspace-dev"
    ).execute()
    assert texts(executed) == ["None\n"]


@pytest.mark.parametrize("kernel", ["clawdspace", "clawdspace-dev"])
def test_nbclient_executes_a_notebook(daemon: Host, kernel: str) -> None:
    executed = NotebookClient(notebook(), kernel_name=kernel).execute()
    assert texts(executed)[0] == "42\n"
    until(lambda: spaces(daemon) == ["dev"])


def test_nbclient_reports_an_error_of_a_cell(daemon: Host) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(notebook("1 / 0"), kernel_name="clawdspace").execute()
    until(lambda: spaces(daemon) == ["dev"])


def test_nbclient_notices_a_dead_kernel(daemon: Host) -> None:
    with pytest.raises(DeadKernelError):
        NotebookClient(notebook("import os\nos._exit(1)"), kernel_name="clawdspace").execute()
    until(lambda: spaces(daemon) == ["dev"])


def test_papermill_executes_a_notebook_with_parameters(daemon: Host, home: Path) -> None:
    source = notebook("x = 1", "print(x + 1)")
    source.cells[0].metadata.tags = ["parameters"]
    source.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    nbformat.write(source, home / "in.ipynb")
    papermill.execute_notebook(
        home / "in.ipynb", home / "out.ipynb", {"x": 41}, kernel_name="clawdspace", progress_bar=False
    )
    assert texts(nbformat.read(home / "out.ipynb", 4)) == ["42\n"]


def test_jupyter_execute_runs_a_notebook(daemon: Host, home: Path) -> None:
    nbformat.write(notebook(), home / "in.ipynb")
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--kernel_name=clawdspace-dev", "in.ipynb"]
    subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=60)
    assert texts(nbformat.read(home / "in.ipynb", 4))[0] == "42\n"


def test_a_killed_client_takes_its_throwaway_space_with_it(daemon: Host, home: Path) -> None:
    nbformat.write(notebook("import time\ntime.sleep(60)"), home / "in.ipynb")
    command = [sys.executable, "-m", "jupyter", "execute", "--kernel_name=clawdspace", "in.ipynb"]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(spaces(daemon)) == 2)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    until(lambda: spaces(daemon) == ["dev"])


def test_a_client_that_ignores_provisioners_starts_nothing(daemon: Host) -> None:
    """Were the command a real kernel, it would run outside any space."""
    spec = KernelSpecManager().get_kernel_spec("clawdspace")
    result = subprocess.run([sys.executable, *spec.argv[1:]], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert "runs in a clawdspace space" in result.stderr
