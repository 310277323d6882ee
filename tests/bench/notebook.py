"""Jupyter servers and kernels as a page sees them: REST and the v1 websocket protocol."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from websocket import WebSocket, create_connection

SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"


class JupyterServer:
    """A server process of its own, with our extension or without."""

    def __init__(self, home: Path, *, extension: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self.port}"
        self.headers = {"Authorization": f"token {self.token}"}
        config = home / f"config-{extension}"
        config.mkdir()
        enabled = {"clawdspace_ext": extension, "jupyterlab": False}
        settings = {"ServerApp": {"jpserver_extensions": enabled, "allow_root": True, "root_dir": str(home)}}
        (config / "jupyter_server_config.json").write_text(json.dumps(settings))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter_server", "--no-browser"),
                *(f"--ServerApp.port={self.port}", f"--IdentityProvider.token={self.token}"),
                "--ZMQChannelsWebsocketConnection.limit_rate=False",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(home / f"server-{extension}.log").open("wb"),
            env={**os.environ, "JUPYTER_CONFIG_DIR": str(config)},
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                requests.get(f"{self.url}/api/status", headers=self.headers, timeout=5).raise_for_status()
                return self
            except requests.RequestException:
                time.sleep(0.1)
        raise TimeoutError("the Jupyter server does not answer")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)


class Kernel:
    """A kernel and one websocket to it."""

    def __init__(self, server: JupyterServer, spec: str) -> None:
        self._server = server
        answer = requests.post(f"{server.url}/api/kernels", json={"name": spec}, headers=server.headers, timeout=60)
        answer.raise_for_status()
        self.id: str = answer.json()["id"]
        address = f"ws://127.0.0.1:{server.port}/api/kernels/{self.id}/channels?session_id={uuid.uuid4().hex}"
        self._socket: WebSocket = create_connection(
            address,
            subprotocols=[SUBPROTOCOL],
            header=server.headers,
            sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def run(self, code: str) -> list[dict[str, Any]]:
        """Execute code and return the messages of iopub, up to idle."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "username": "",
            "session": "bench",
            "msg_type": "execute_request",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        self._socket.send_binary(pack("shell", header, content))
        seen: list[dict[str, Any]] = []
        replied = idle = False
        while not (replied and idle):
            channel, message = unpack(self._socket.recv())
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if channel == "shell":
                replied = True
            elif channel == "iopub":
                seen.append(message)
                idle = idle or message["content"].get("execution_state") == "idle"
        return seen

    def run_pass(self) -> None:
        """Execute `pass`."""
        self.run("pass")

    def first_result(self) -> None:
        """Execute something, and give the kernel up."""
        self.run("1 + 1")
        self.close()

    def close(self) -> None:
        """Shut the kernel down."""
        self._socket.close()
        requests.delete(f"{self._server.url}/api/kernels/{self.id}", headers=self._server.headers, timeout=60)


def pack(channel: str, header: dict[str, Any], content: dict[str, Any]) -> bytes:
    """Return a message in the v1 layout: a count, the offsets, and the parts."""
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, {}, {}, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(number.to_bytes(8, "little") for number in (len(offsets), *offsets)) + b"".join(parts)


def unpack(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return channel and message of the v1 layout."""
    count = int.from_bytes(data[:8], "little")
    offsets = [int.from_bytes(data[8 * n : 8 * (n + 1)], "little") for n in range(1, count + 1)]
    parts = [data[start:end] for start, end in itertools.pairwise(offsets)]
    header, parent, _, content = (json.loads(part) for part in parts[1:5])
    return parts[0].decode(), {"header": header, "parent_header": parent, "content": content}
