"""A real Jupyter server with our extension, in front of a daemon whose host is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_jupyter.jupyter_server import *  # noqa: F403  # its fixtures; pytest takes plugins from the top folder only
from tornado.httpclient import HTTPClientError
from traitlets.config import Config

from clawdspace_ext.keys import KeyStore
from support.api import Answer, Api
from support.fake_daemon import FakeDaemon, fake_daemon
from support.openapi import check_answer

OURS = ("/api/spaces", "/api/volumes", "/api/system", "/api/health")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as found:
        yield found


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def jp_server_config(daemon: FakeDaemon, tmp_path: Path) -> Config:
    return Config(
        {
            "ServerApp": {
                "jpserver_extensions": {"clawdspace_ext": True, "jupyter_server_terminals": False},
                "allow_unauthenticated_access": False,
            },
            "ClawdspaceApp": {"socket_path": str(daemon.socket_path), "keys_path": str(tmp_path / "keys.json")},
        }
    )


@pytest.fixture
def api(jp_serverapp: Any, http_server_client: Any, jp_base_url: str, jp_auth_header: dict[str, str]) -> Api:
    """Send a request and return the answer, whatever its status.

    ``headers`` None sends the server's token; a ``str`` body is sent as it is, anything else as JSON.  Each answer
    is held against rest-api.yml.
    """

    async def ask(
        method: str, path: str, body: object = None, headers: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        content = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
        try:
            response = await http_server_client.fetch(
                jp_base_url.rstrip("/") + path,
                method=method,
                body=content,
                headers=jp_auth_header if headers is None else headers,
                allow_nonstandard_methods=True,
                follow_redirects=False,
                request_timeout=20,
                **options,
            )
        except HTTPClientError as error:
            if error.response is None:
                raise
            response = error.response
        raw = response.body or b""
        answer = Answer(response.code, json.loads(raw) if raw else None, response.headers, raw)
        if any(path.startswith(prefix) for prefix in OURS) and method != "HEAD":
            check_answer(method, path, answer.status, answer.body)
        return answer

    return ask
