"""``clawdspace serve`` with the TypeScript project's clients: their requests, and what they look for in answers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.cli import Cli
from support.home import Home

KEY = "a-key-of-the-old-kind"


class Server:
    """A server, and requests to it as curl sends them."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, method: str, path: str, body: str | None = None, key: str = KEY) -> tuple[int, str]:
        """Return the status and the text of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "curl/8.5.0", "Accept": "*/*"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def answers(self) -> bool:
        try:
            return self("GET", "/api/health")[0] == 200
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(home: Home) -> Iterator[Server]:
    server = Server(free_port())
    env = {**os.environ, "PORT": str(server.port), "API_KEY": KEY, "IDLE_TIMEOUT_MS": "600000"}
    process = Cli(env).start("serve")
    deadline = time.monotonic() + 30
    while not server.answers():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield server
    process.send_signal(signal.SIGTERM)
    output, notes = process.communicate(timeout=20)
    assert KEY.encode() not in output + notes
    assert b"IDLE_TIMEOUT_MS" in notes
    assert b"Traceback" not in notes


def test_the_command_line_of_the_typescript_project_works(server: Server) -> None:
    assert json.loads(server("GET", "/api/health")[1])["status"] == "ok"
    status, text = server("POST", "/api/spaces", '{"name":"dev","memory":"512m","cpus":"1","gpu":false}')
    assert (status, '"name":"dev"' in text, '"error"' in text) == (201, True, False)

    status, text = server("POST", "/api/spaces/dev/exec", '{"command":"echo one two; exit 3"}')
    assert (status, '"stdout":"one two\\n"' in text, '"exitCode":3' in text) == (200, True, True)
    status, text = server("POST", "/api/spaces/dev/exec", '{"command":["sh","-c","echo $0","x"]}')
    assert '"stdout":"x\\n"' in text

    status, text = server("GET", "/api/spaces")
    assert (status, '"name":"dev"' in text, '"status":"running"' in text) == (200, True, True)
    assert server("POST", "/api/spaces/dev/stop") == (200, '{"message":"Space paused"}')
    assert '"status":"paused"' in server("GET", "/api/spaces/dev")[1]
    assert server("POST", "/api/spaces/dev/start") == (200, '{"message":"Space started"}')

    _, text = server("GET", "/api/system")
    assert '"docker":{"version":' in text
    assert '"gpu":false' in server("GET", "/api/system/capabilities")[1]

    assert server("DELETE", "/api/spaces/dev?removeVolume=true") == (200, '{"message":"Space destroyed"}')
    status, text = server("GET", "/api/spaces/dev")
    assert (status, '"error"' in text, '"name"' in text) == (404, True, False)
    assert server("GET", "/api/spaces") == (200, '{"spaces":[]}')


def test_requests_as_old_clients_write_them_are_understood(server: Server) -> None:
    """Keys given twice, and a bare number of megabytes."""
    status, text = server("POST", "/api/spaces", '{"name":"no","name":"dev","memory":"512","cpus":0.5,"template":""}')
    space: dict[str, Any] = json.loads(text)["space"]
    assert (status, space["name"], space["memory"], space["cpus"]) == (201, "dev", 512 * 1024**2, 0.5)

    status, text = server("POST", "/api/spaces", '{"name":"dev"}')
    assert (status, '"error"' in text) == (409, True)


def test_a_prometheus_server_reads_the_metrics_with_the_key(server: Server) -> None:
    server("POST", "/api/spaces", '{"name":"dev","memory":"256m"}')
    status, text = server("GET", "/api/metrics")

    assert status == 200
    assert 'state="running"} 1.0\n' in text
    assert server("GET", "/api/metrics", key="wrong")[0] == 403
    assert server("POST", "/api/metrics", "{}")[0] == 405


def test_nothing_but_health_is_open_without_the_key(server: Server) -> None:
    for method, path in (("GET", "/api/spaces"), ("GET", "/api/system"), ("POST", "/api/spaces"), ("GET", "/api/nope")):
        status, text = server(method, path, None if method == "GET" else "{}", key="wrong")
        assert (status, '"error"' in text) in ((403, True), (404, True)), (method, path, text)
    assert server("GET", f"/api/spaces?key={KEY}", key="wrong")[0] == 403


def test_a_server_that_cannot_have_its_port_says_so(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = {**os.environ, "API_KEY": KEY, "PORT": str(taken.getsockname()[1])}
        done = Cli(env)("serve")

    assert done.returncode != 0
    assert b"already in use" in done.stderr + done.stdout


def test_a_port_that_is_none_is_said_to_be_the_ports_fault(home: Home) -> None:
    done = Cli({**os.environ, "PORT": "http"})("serve")

    assert done.returncode == 2
    assert b"PORT" in done.stderr or b"--port" in done.stderr


def test_the_server_can_be_killed_and_started_again(home: Home) -> None:
    port = free_port()
    env = {**os.environ, "PORT": str(port), "API_KEY": KEY}
    for turn in range(2):
        server, process = Server(port), Cli(env).start("serve")
        deadline = time.monotonic() + 30
        while not server.answers():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        if turn == 0:
            assert server("POST", "/api/spaces", '{"name":"dev","memory":"256m","cpus":"1"}')[0] == 201
        assert '"stdout":"on\\n"' in server("POST", "/api/spaces/dev/exec", '{"command":"echo on"}')[1]
        process.kill()
        close(process)


def close(process: subprocess.Popen[bytes]) -> None:
    process.communicate(timeout=10)
