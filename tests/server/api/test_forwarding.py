"""What lies between a Jupyter server and the daemon: paths, failures, keys that are sent twice, the machine's facts."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from traitlets.config import Config

from clawdspace_ext.keys import KeyStore
from support.api import Api
from support.fake_daemon import FakeDaemon, fake_daemon


async def test_an_unknown_path_of_ours_is_json(api: Api) -> None:
    for path in ("/api/spaces/dev/nonsense", "/api/system/x/y", "/api/health/x", "/api/volumes/a/b"):
        answer = await api("GET", path)

        assert (answer.status, answer.body) == (404, {"error": "there is no such path", "code": "not_found"})


async def test_a_wrong_method_is_told_the_right_ones(api: Api) -> None:
    answer = await api("PUT", "/api/spaces/dev", {})

    assert (answer.status, answer.body["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE, GET"


async def test_jupyters_own_paths_stay_jupyters(api: Api) -> None:
    for path in ("", "/status", "/kernels", "/kernelspecs", "/sessions", "/contents", "/me"):
        answer = await api("GET", f"/api{path}")

        assert answer.status == 200, path
        assert "code" not in answer.body


class TestWithoutDaemon:
    """Nobody listens on the socket."""

    @pytest.fixture
    def jp_server_config(self, jp_server_config: Config, tmp_path: Path) -> Config:
        jp_server_config.ClawdspaceApp.socket_path = str(tmp_path / "later.sock")
        return jp_server_config

    async def test_health_is_answered(self, api: Api) -> None:
        assert (await api("GET", "/api/health", headers={})).status == 200

    async def test_everything_else_may_be_tried_again(self, api: Api, jp_auth_header: dict[str, str]) -> None:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        for method, path, headers in (
            ("GET", "/api/spaces", {}),
            ("POST", "/api/spaces", {}),
            ("GET", "/api/spaces/dev/exec/stream", upgrade),
        ):
            answer = await api(method, path, {} if method == "POST" else None, headers=jp_auth_header | headers)

            assert (answer.status, answer.body["code"]) == (503, "unavailable")
            assert answer.body["remedy"]
            assert answer.headers["Retry-After"]

    async def test_a_daemon_that_comes_later_is_found(self, api: Api, tmp_path: Path) -> None:
        assert (await api("GET", "/api/spaces")).status == 503

        with fake_daemon(tmp_path, "later.sock"):
            assert (await api("GET", "/api/spaces")).body == {"spaces": []}
        with fake_daemon(tmp_path, "later.sock"):
            assert (await api("POST", "/api/spaces", {"name": "dev"})).status == 201


# -- keys that are sent twice -----------------------------------------------------------------------------------------


async def test_the_same_key_creates_once(api: Api, daemon: FakeDaemon, jp_auth_header: dict[str, str]) -> None:
    headers = jp_auth_header | {"Idempotency-Key": "k1"}

    answers = [await api("POST", "/api/spaces", {"name": "dev"}, headers=headers) for _ in range(3)]

    assert {answer.status for answer in answers} == {201}
    assert len({answer.raw for answer in answers}) == 1
    assert daemon.host.calls == ["create dev"]


async def test_a_repetition_waits_for_the_first(api: Api, daemon: FakeDaemon, jp_auth_header: dict[str, str]) -> None:
    headers = jp_auth_header | {"Idempotency-Key": "k1"}
    daemon.call(daemon.host.gate.clear)

    tasks = [asyncio.ensure_future(api("POST", "/api/spaces", {"name": "dev"}, headers=headers)) for _ in range(5)]
    await asyncio.sleep(0.2)
    daemon.call(daemon.host.gate.set)
    answers = await asyncio.gather(*tasks)

    assert {answer.status for answer in answers} == {201}
    assert daemon.host.calls == ["create dev"]


async def test_the_same_key_for_something_else_is_a_conflict(
    api: Api, daemon: FakeDaemon, jp_auth_header: dict[str, str]
) -> None:
    headers = jp_auth_header | {"Idempotency-Key": "k1"}
    await api("POST", "/api/spaces", {"name": "dev"}, headers=headers)

    for path, body in (("/api/spaces", {"name": "other"}), ("/api/spaces/dev/exec", {"command": "true"})):
        answer = await api("POST", path, body, headers=headers)

        assert (answer.status, answer.body["code"], answer.body["field"]) == (409, "conflict", "Idempotency-Key")
    assert daemon.host.calls == ["create dev"]


async def test_two_people_may_use_the_same_key(api: Api, keys: KeyStore, jp_auth_header: dict[str, str]) -> None:
    other = {"Authorization": f"Bearer {keys.create('ci')}"}
    key = {"Idempotency-Key": "k1"}

    mine = await api("POST", "/api/spaces", {"name": "mine"}, headers=jp_auth_header | key)
    theirs = await api("POST", "/api/spaces", {"name": "theirs"}, headers=other | key)

    assert (mine.status, theirs.status) == (201, 201)


async def test_a_failure_is_repeated_too(api: Api, daemon: FakeDaemon, jp_auth_header: dict[str, str]) -> None:
    """Whoever repeats a request learns how it went, not how it goes now."""
    headers = jp_auth_header | {"Idempotency-Key": "k1"}
    missing = await api("POST", "/api/spaces/dev/exec", {"command": "true"}, headers=headers)
    await api("POST", "/api/spaces", {"name": "dev"})

    again = await api("POST", "/api/spaces/dev/exec", {"command": "true"}, headers=headers)

    assert (missing.status, again.raw) == (404, missing.raw)
    assert "exec dev" not in daemon.host.calls


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
async def test_a_key_has_a_form(api: Api, daemon: FakeDaemon, jp_auth_header: dict[str, str], key: str) -> None:
    answer = await api("POST", "/api/spaces", {"name": "dev"}, headers=jp_auth_header | {"Idempotency-Key": key})

    assert (answer.status, answer.body["field"]) == (400, "Idempotency-Key")
    assert daemon.host.calls == []


# -- the machine ------------------------------------------------------------------------------------------------------


async def test_the_system_is_described_in_the_words_clients_know(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    system = (await api("GET", "/api/system")).body

    assert list(system) == [
        *("hostname", "platform", "arch", "cpus", "loadAverage", "memory", "disk", "uptime", "docker", "capabilities")
    ]
    assert system["platform"] == "linux"
    assert system["arch"] in ("x64", "arm64")
    assert isinstance(system["cpus"], int)
    assert len(system["loadAverage"]) == 3
    assert list(system["memory"]) == ["total", "free", "used", "percentage"]
    assert all(re.fullmatch(r"\d+\.\d GB", system["memory"][part]) for part in ("total", "free", "used"))
    assert re.fullmatch(r"\d+\.\d%", system["memory"]["percentage"])
    assert list(system["disk"]) == ["total", "used", "available", "percentage"]
    assert all(re.fullmatch(r"[\d.]+[KMGTP]?", system["disk"][part]) for part in ("total", "used", "available"))
    assert re.fullmatch(r"\d+%", system["disk"]["percentage"])
    assert re.fullmatch(r"\d+d \d+h \d+m", system["uptime"])
    assert system["docker"] == {
        "version": None,
        "containers": 0,
        "containersRunning": 0,
        "containersPaused": 0,
        "images": 0,
    }
    assert system["capabilities"] == {
        "gpu": False,
        "gpuName": None,
        "gpuMemory": None,
        "arch": system["arch"],
        "platform": "linux",
    }


async def test_capabilities_name_the_engines(api: Api) -> None:
    found = (await api("GET", "/api/system/capabilities")).body

    assert list(found)[:7] == ["gpu", "gpuName", "gpuMemory", "arch", "platform", "cpus", "memory"]
    assert found["engine"] == "fake"
    assert found["engines"] == [
        {
            "name": "fake",
            "version": "1",
            "defaultImage": "fake:latest",
            "notEnforced": ["memory"],
            "facts": {"images": "3"},
        }
    ]
