"""A kernel through the whole chain: ipykernel, agent, link, relay, and a client that knows of none of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clawdspace_ext.errors import Conflict, InvalidRequest, NotFound
from clawdspace_ext.relay.kernel import Kernel, KernelState
from support.kernels import Host, Notebook, printed

pytestmark = pytest.mark.asyncio


async def dies(kernel: Kernel) -> str:
    async with asyncio.timeout(10):
        while kernel.state is not KernelState.DEAD:
            await asyncio.sleep(0.01)
    assert kernel.ending is not None
    return kernel.ending.reason


async def test_a_cell_runs_in_the_space(host: Host, notebook: Notebook) -> None:
    reply, output = await notebook.run("import os; print(os.getcwd()); 6 * 7")
    space = await host.spaces.get("dev")
    assert reply["status"] == "ok"
    assert [kind for kind, _ in output] == ["status", "execute_input", "stream", "execute_result", "status"]
    assert space.id in printed(output)
    assert output[-2][1]["data"]["text/plain"] == "42"


async def test_the_environment_is_the_spaces_and_the_requests_and_not_the_daemons_parent(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = await Notebook(await host.kernel(env={"OF_THE_REQUEST": "2"})).ready()
    found = await notebook.text(
        "import os; print([os.environ.get(n) for n in ('OF_THE_SPACE', 'OF_THE_REQUEST', 'JPY_PARENT_PID')])"
    )
    assert found == "['1', '2', None]\n"
    notebook.close()


async def test_input_is_asked_for_and_answered(notebook: Notebook) -> None:
    reply, output = await notebook.run(
        "print('hello', input('name? '))", allow_stdin=True, stdin_hook=lambda _: notebook.client.input("Ada")
    )
    assert reply["status"] == "ok"
    assert printed(output) == "hello Ada\n"


async def test_two_clients_see_the_same_output_and_each_its_own_replies(host: Host, notebook: Notebook) -> None:
    other = await Notebook(host.kernels.get("a kernel")).ready()
    await notebook.text("x = 41")
    assert await other.text("print(x + 1)") == "42\n"
    other.close()


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: pass"])
async def test_a_running_cell_can_be_interrupted(host: Host, notebook: Notebook, code: str) -> None:
    cell = asyncio.create_task(notebook.run(f"print('begun', flush=True)\n{code}"))
    await asyncio.sleep(0.5)
    await host.kernels.get("a kernel").signal(signal.SIGINT)
    reply, _ = await asyncio.wait_for(cell, 10)
    assert reply["ename"] == "KeyboardInterrupt"
    assert await notebook.text("print('on')") == "on\n"


async def test_a_restarted_kernel_is_reached_over_the_same_connections(host: Host, notebook: Notebook) -> None:
    await notebook.text("x = 1")
    before = host.kernels.get("a kernel").connection_info
    await host.kernels.restart("a kernel")
    assert await notebook.text("print('x' in globals())") == "False\n"
    assert host.kernels.get("a kernel").connection_info == before


async def test_a_request_during_a_restart_waits_for_the_new_process(host: Host, notebook: Notebook) -> None:
    kernel = host.kernels.get("a kernel")
    await kernel.kill()
    cell = asyncio.create_task(notebook.text("print('late')"))
    await asyncio.sleep(0.1)
    await host.kernels.restart("a kernel")
    assert await cell == "late\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os._exit(7)", "exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL)"),
        ("import ctypes; ctypes.string_at(0)", "killed by signal 11 (SIGSEGV)"),
    ],
)
async def test_a_death_is_noticed_and_says_why(host: Host, notebook: Notebook, code: str, reason: str) -> None:
    notebook.client.execute(code)
    assert (await dies(host.kernels.get("a kernel"))).startswith(reason)


async def test_a_kernel_that_cannot_start_says_what_its_python_said(
    host: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = home / "bin"
    wrong.mkdir()
    (wrong / "python3").write_text("#!/bin/sh\necho 'no ipykernel here' >&2; exit 3\n")
    (wrong / "python3").chmod(0o755)
    kernel = await host.kernel(env={"PATH": f"{wrong}:/usr/bin:/bin"})
    assert await dies(kernel) == "exit code 3: no ipykernel here"


async def test_a_destroyed_space_ends_its_kernels(host: Host, notebook: Notebook) -> None:
    await host.spaces.destroy("dev")
    assert await dies(host.kernels.get("a kernel")) == "the space was destroyed"


async def test_a_kernel_that_its_agent_does_not_know_is_dead(host: Host, notebook: Notebook) -> None:
    kernel = host.kernels.get("a kernel")
    await (await host.spaces.link("dev")).call("kernel.forget", {"id": kernel.record.short})
    assert await dies(kernel) == "the processes of its space were ended"
    await host.kernels.restart("a kernel")
    assert await notebook.text("print('again')") == "again\n"


async def test_twenty_thousand_flushed_lines_reach_a_reader_who_comes_late(notebook: Notebook) -> None:
    client = notebook.client
    request = client.execute("for i in range(20_000): print(i, flush=True)")
    await asyncio.sleep(6)
    text = []
    while True:
        message = await client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream":
            text.append(message["content"]["text"])
        if message["content"].get("execution_state") == "idle":
            break
    assert "".join(text).split() == [str(i) for i in range(20_000)]


async def test_a_reader_who_never_reads_holds_up_nobody(host: Host, notebook: Notebook) -> None:
    stuck = await Notebook(host.kernels.get("a kernel")).ready()
    stuck.client.iopub_channel.socket.rcvhwm = 1
    assert len(await notebook.text("for i in range(40): print('x' * 999_999)")) == 40_000_000
    stuck.close()


async def test_large_messages_and_buffers_pass_both_ways(notebook: Notebook) -> None:
    reply, output = await notebook.run(
        "from IPython import get_ipython\n"
        f"data = {'x' * 3_000_000!r}\n"
        "get_ipython().kernel.session.send(get_ipython().kernel.iopub_socket, 'display_data',"
        " {'data': {'text/plain': data}, 'metadata': {}}, parent=get_ipython().kernel.get_parent(),"
        " buffers=[bytes(5_000_000)])"
    )
    assert reply["status"] == "ok"
    (shown,) = [content for kind, content in output if kind == "display_data"]
    assert len(shown["data"]["text/plain"]) == 3_000_000


async def test_variables_and_output_survive_a_restart_of_the_daemon(host: Host, notebook: Notebook) -> None:
    await notebook.text("x = 41")
    cell = asyncio.create_task(notebook.text("import time\nfor i in range(20): print(i, flush=True); time.sleep(0.1)"))
    await asyncio.sleep(0.5)
    await host.restart()
    assert (await cell).split() == [str(i) for i in range(20)]
    assert await notebook.text("print(x + 1)") == "42\n"


async def test_output_waits_in_the_space_while_the_daemon_is_away(host: Host, notebook: Notebook) -> None:
    """More of it than the spool holds: the kernel waits as well."""
    cell = asyncio.create_task(notebook.text("for i in range(100): print(f'{i:02}' + 'x' * 499_997)"))
    await asyncio.sleep(0.2)
    await host.leave()
    await asyncio.sleep(1.5)
    await host.begin()
    lines = (await cell).splitlines()
    assert [int(line[:2]) for line in lines] == list(range(100))
    assert {len(line) for line in lines} == {499_999}


async def test_ten_kernels_started_at_once_all_answer(host: Host) -> None:
    kernels = await asyncio.gather(*(host.kernel(f"kernel {n}") for n in range(10)))
    notebooks = await asyncio.gather(*(Notebook(kernel).ready() for kernel in kernels))
    found = await asyncio.gather(*(notebook.text(f"print({n})") for n, notebook in enumerate(notebooks)))
    assert found == [f"{n}\n" for n in range(10)]
    for notebook in notebooks:
        notebook.close()


async def test_a_death_while_the_daemon_is_away_is_known_after(host: Host, notebook: Notebook) -> None:
    notebook.client.execute("import time, os; time.sleep(1); os._exit(9)")
    await asyncio.sleep(0.3)
    await host.leave()
    await asyncio.sleep(1)
    await host.begin()
    assert await dies(host.kernels.get("a kernel")) == "exit code 9"


async def test_a_paused_space_is_woken_by_a_cell_and_not_by_a_heartbeat_or_the_daemon(
    host: Host, notebook: Notebook
) -> None:
    await notebook.text("x = 1")
    await host.spaces.pause("dev")
    await host.restart()
    await asyncio.sleep(1.5)
    assert notebook.client.hb_channel.is_beating()
    assert (await host.spaces.get("dev")).state == "paused"
    assert await notebook.text("print(x)") == "1\n"
    assert (await host.spaces.get("dev")).state == "running"


async def test_a_shutdown_request_of_a_client_is_answered_and_the_kernel_lives_on(
    host: Host, notebook: Notebook
) -> None:
    reply = await notebook.client.shutdown(reply=True, timeout=5)
    assert reply["content"] == {"status": "ok", "restart": False}
    assert await notebook.text("print('alive')") == "alive\n"


async def test_a_request_with_a_wrong_signature_is_ignored(host: Host, notebook: Notebook) -> None:
    forger = Notebook(host.kernels.get("a kernel"))
    forger.client.session.key = b"guessed"
    forger.client.execute("x = 'forged'")
    await asyncio.sleep(0.3)
    assert await notebook.text("print('x' in globals())") == "False\n"
    forger.close()


async def test_the_space_never_learns_the_key_of_the_clients(host: Host, notebook: Notebook) -> None:
    key = host.kernels.get("a kernel").connection_info["key"]
    found = await notebook.text(
        f"import glob; print([{key[:20]!r} + {key[20:]!r} in open(p).read()"
        " for p in glob.glob('/tmp/clawdspace-kernel-*/connection.json')])"
    )
    assert "True" not in found


async def test_clients_may_delete_the_socket_files_they_were_given(host: Host, notebook: Notebook) -> None:
    """As jupyter_client does when it cleans up, also in a restart."""
    info = host.kernels.get("a kernel").connection_info
    for number in range(1, 6):
        Path(f"{info['ip']}-{number}").unlink()
    await host.kernels.restart("a kernel")
    later = await Notebook(host.kernels.get("a kernel")).ready()
    assert await later.text("print('hello')") == "hello\n"
    later.close()


async def test_a_shutdown_is_polite_and_lets_exit_handlers_run(host: Host, notebook: Notebook, home: Path) -> None:
    await notebook.text(f"import atexit, pathlib; atexit.register(pathlib.Path({str(home / 'bye')!r}).touch)")
    await host.kernels.get("a kernel").shutdown(restart=False)
    assert (home / "bye").exists()


async def test_a_kernel_that_ignores_a_shutdown_is_killed(host: Host, notebook: Notebook) -> None:
    notebook.client.execute("import signal\nwhile True:\n  try:\n    while True: pass\n  except BaseException: pass")
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await host.kernels.get("a kernel").shutdown(restart=False)
    assert time.monotonic() - began < 5
    assert host.kernels.get("a kernel").state is KernelState.DEAD


async def test_a_removed_kernel_leaves_nothing_behind(host: Host, notebook: Notebook, home: Path) -> None:
    pid = int(await notebook.text("import os; print(os.getpid())"))
    await host.kernels.remove("a kernel")
    await asyncio.sleep(0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert list((home / "run" / "k").iterdir()) == []
    assert list((home / "data" / "kernels").iterdir()) == []
    assert host.kernels.list() == []


async def test_a_throwaway_space_goes_with_its_kernel(host: Host) -> None:
    kernel = await host.kernel("sandboxed", None)
    assert [space.name for space in await host.spaces.list()] == ["dev", kernel.record.space]
    await host.kernels.remove("sandboxed")
    assert [space.name for space in await host.spaces.list()] == ["dev"]
    assert await host.spaces.kept() == []


@pytest.mark.parametrize("meanwhile", ["awake", "restarted"])
async def test_a_throwaway_space_goes_when_its_owner_is_killed(host: Host, meanwhile: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    await host.kernel("sandboxed", None, owner_pid=owner.pid)
    if meanwhile == "restarted":
        await host.leave()
    owner.kill()
    owner.communicate()
    if meanwhile == "restarted":
        await host.begin()
    async with asyncio.timeout(10):
        while len(await host.spaces.list()) > 1 or host.kernels.list():
            await asyncio.sleep(0.05)


async def test_a_kernel_in_a_space_that_is_not_there_leaves_nothing(host: Host, home: Path) -> None:
    with pytest.raises(NotFound):
        await host.kernel(space="nowhere")
    assert host.kernels.list() == []
    assert list((home / "data" / "kernels").iterdir()) == []


async def test_an_owner_that_is_nobodys_process_is_refused(host: Host) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await host.kernel(owner_pid=4_194_300)
    assert caught.value.field == "ownerPid"


async def test_a_kernel_stays_in_its_space(host: Host, notebook: Notebook) -> None:
    with pytest.raises(Conflict):
        await host.kernel(space="elsewhere")


async def test_starting_a_kernel_again_puts_a_new_process_behind_the_same_sockets(
    host: Host, notebook: Notebook
) -> None:
    """What jupyter_client does to restart."""
    first = host.kernels.get("a kernel").connection_info
    await notebook.text("x = 1")
    assert (await host.kernel()).connection_info == first
    assert await notebook.text("print('x' in globals())") == "False\n"


async def test_a_kernel_can_be_restarted_after_its_space_was_stopped(host: Host, notebook: Notebook) -> None:
    for _ in range(5):
        await notebook.text("print('hello')")
    await host.spaces.stop("dev")
    assert await dies(host.kernels.get("a kernel")) == "the space was stopped"
    await host.kernels.restart("a kernel")
    assert await notebook.text("print('again')") == "again\n"
