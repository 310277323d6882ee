"""The REST API through a Jupyter server, to the letter of what existing clients parse."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Any

import pytest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

import clawdspace_ext
from clawdspace_ext.handlers.requesting import local_user
from support.api import Api
from support.fake_daemon import FakeDaemon


async def test_health_is_open_and_says_the_version(api: Api) -> None:
    answer = await api("GET", "/api/health", headers={})

    assert answer.raw == b'{"status":"ok","version":"%s"}' % clawdspace_ext.__version__.encode()
    assert answer.headers["Content-Type"] == "application/json"


async def test_there_are_no_spaces_at_first(api: Api) -> None:
    assert (await api("GET", "/api/spaces")).raw == b'{"spaces":[]}'


async def test_a_space_is_created_with_what_was_asked(api: Api, daemon: FakeDaemon) -> None:
    body = {"name": "dev", "memory": "512m", "cpus": "1.5", "image": "python:3.12", "env": {"A": "1"}, "gpu": False}

    answer = await api("POST", "/api/spaces", body)

    assert answer.status == 201
    space = answer.body["space"]
    assert list(answer.body) == ["space"]
    assert re.fullmatch("[0-9a-f]{12}", space["id"])
    assert datetime.fromisoformat(space["created"]).utcoffset() is not None
    assert datetime.fromisoformat(space["started"]) <= datetime.fromisoformat(space["lastActivity"])
    timeless = {name: value for name, value in space.items() if name not in ("created", "started", "lastActivity")}
    assert timeless == {
        "name": "dev",
        "id": space["id"],
        "status": "running",
        "image": "python:3.12",
        "memory": 512 * 1024 * 1024,
        "cpus": 1.5,
        "volume": {"name": space["id"], "mountpoint": "/workspace"},
        "engine": "fake",
        "owner": local_user(),
        "network": "internet",
        "notEnforced": ["memory"],
    }
    assert daemon.host.spaces["dev"].record.spec.env == {"A": "1"}
    assert (await api("GET", "/api/spaces/dev")).body == answer.body
    assert (await api("GET", "/api/spaces/")).body == {"spaces": [space]}


@pytest.mark.parametrize("network", ["none", "internet"])
async def test_a_network_is_chosen(api: Api, daemon: FakeDaemon, network: str) -> None:
    answer = await api("POST", "/api/spaces", {"name": "dev", "network": network})

    assert answer.body["space"]["network"] == network
    assert daemon.host.spaces["dev"].record.spec.network == network


async def test_defaults_are_two_gigabytes_and_one_cpu(api: Api) -> None:
    answer = await api("POST", "/api/spaces", {"name": "dev", "template": "", "memory": None, "repoUrl": None})

    assert (answer.body["space"]["memory"], answer.body["space"]["cpus"]) == (2 * 1024**3, 1)
    assert b'"cpus":1,' in answer.raw


async def test_json_is_compact_utf8(api: Api, daemon: FakeDaemon) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("POST", "/api/spaces/dev/exec", {"command": ["printf", "é: 1, 2"]})

    assert answer.raw.startswith('{"stdout":"é: 1, 2","stderr":"","exitCode":0,"durationMs":'.encode())


async def test_of_a_repeated_field_the_last_counts(api: Api) -> None:
    answer = await api("POST", "/api/spaces", '{"name":"one","name":"two"}')

    assert answer.body["space"]["name"] == "two"


async def test_a_taken_name_is_a_conflict(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("POST", "/api/spaces", {"name": "dev"})

    assert answer.status == 409
    assert answer.body["code"] == "conflict"
    assert answer.body["field"] == "name"
    assert "already" in answer.body["error"]
    assert answer.body["remedy"]


async def test_an_answer_for_a_missing_space_names_no_name(api: Api) -> None:
    """The bash client takes a "name" in an answer for a space that is there."""
    for method, path in (
        ("GET", "/api/spaces/nope"),
        ("DELETE", "/api/spaces/nope"),
        ("POST", "/api/spaces/nope/stop"),
        ("POST", "/api/spaces/nope/exec"),
    ):
        answer = await api(method, path, {"command": "true"} if path.endswith("exec") else None)

        assert (answer.status, answer.body["code"]) == (404, "not_found")
        assert b'"error":' in answer.raw
        assert b'"name"' not in answer.raw


async def test_no_success_says_error(api: Api) -> None:
    created = await api("POST", "/api/spaces", {"name": "error"})
    answers = [
        created,
        await api("GET", "/api/spaces/error"),
        await api("POST", "/api/spaces/error/exec", {"command": """printf '{"error":"x"}'"""}),
        await api("DELETE", "/api/spaces/error"),
    ]

    assert all(b'"error":' not in answer.raw for answer in answers)


async def test_stopping_and_starting_may_be_repeated(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    said = []
    for verb in ("stop", "stop", "start", "start", "halt", "halt", "start"):
        answer = await api("POST", f"/api/spaces/dev/{verb}")
        status = (await api("GET", "/api/spaces/dev")).body["space"]["status"]
        said.append((answer.status, answer.raw, status))

    assert said == [
        (200, b'{"message":"Space paused"}', "paused"),
        (200, b'{"message":"Space paused"}', "paused"),
        (200, b'{"message":"Space started"}', "running"),
        (200, b'{"message":"Space started"}', "running"),
        (200, b'{"message":"Space stopped"}', "stopped"),
        (200, b'{"message":"Space stopped"}', "stopped"),
        (200, b'{"message":"Space started"}', "running"),
    ]


async def test_destroyed_files_are_kept_listed_adopted_and_removed(api: Api, daemon: FakeDaemon) -> None:
    space = (await api("POST", "/api/spaces", {"name": "dev"})).body["space"]
    assert (await api("DELETE", "/api/spaces/dev")).raw == b'{"message":"Space destroyed"}'

    volumes = (await api("GET", "/api/volumes")).body["volumes"]
    assert [(volume["id"], volume["name"], volume["owner"]) for volume in volumes] == [
        (space["volume"]["name"], "dev", local_user())
    ]
    assert (await api("POST", "/api/spaces", {"name": "dev", "adoptVolume": True})).status == 201
    assert (await api("DELETE", "/api/spaces/dev?removeVolume=true")).status == 200
    assert daemon.host.calls[-1] == "destroy dev True"
    assert (await api("DELETE", f"/api/volumes/{space['id']}")).raw == b'{"message":"Volume removed"}'
    assert (await api("DELETE", f"/api/volumes/{space['id']}")).status == 404
    assert (await api("DELETE", "/api/volumes/..%2f..%2fetc")).status == 404


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({}, "name", "missing"),
        ({"name": "-dash"}, "name", "cannot name a space"),
        ({"name": "a/b"}, "name", "cannot name a space"),
        ({"name": 7}, "name", "valid string"),
        ({"name": "x", "memory": "lots"}, "memory", "not an amount of memory"),
        ({"name": "x", "memory": 0}, "memory", "too few"),
        ({"name": "x", "memory": "999999999g"}, "memory", "than any machine"),
        ({"name": "x", "memory": True}, "memory", "not an amount of memory"),
        ({"name": "x", "memory": []}, "memory", "integer"),
        ({"name": "x", "cpus": 0}, "cpus", "not a number of CPUs"),
        ({"name": "x", "cpus": "many"}, "cpus", "valid number"),
        ({"name": "x", "cpus": "nan"}, "cpus", "not a number of CPUs"),
        ({"name": "x", "image": "--privileged"}, "image", "cannot name an image"),
        ({"name": "x", "env": {"1X": "y"}}, "env.1X", "cannot name an environment variable"),
        ({"name": "x", "env": {"X": 1}}, "env.X", "string"),
        ({"name": "x", "env": ["X"]}, "env", "an object of strings"),
        ({"name": "x", "privileged": True}, "privileged", "no field 'privileged'"),
        ({"name": "x", "binds": ["/:/host"]}, "binds", "no field 'binds'"),
        ({"name": "x", "require_limits": True}, "require_limits", "no field 'require_limits'"),
        ({"name": "x", "adoptVolume": "yes"}, "adoptVolume", "boolean"),
        ('{"name": "\\ud800"}', None, "not JSON"),
        ('{"name": "x", "\\uD800": 1}', None, "not JSON"),
        ('{"name": "\\ud83d\\ude00"}', "name", "cannot name a space"),
        ("not json", None, "not JSON"),
        (b"\xff\xfe\xfd", None, "not JSON"),
        ("[" * 100_000, None, "not JSON"),
        ("[1]", None, "not a JSON object"),
    ],
)
async def test_a_wrong_request_is_refused_with_its_field(
    api: Api, daemon: FakeDaemon, body: Any, field: str | None, says: str
) -> None:
    answer = await api("POST", "/api/spaces", body)

    assert (answer.status, answer.body["code"], answer.body.get("field")) == (400, "invalid", field)
    assert says in answer.body["error"]
    assert daemon.host.calls == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu", True),
        ("template", "gpu"),
        ("envFileText", "A=1"),
        ("envFileBase64", "QT0x"),
        ("repoUrl", "https://example.org/x.git"),
        ("network", "bridge"),
    ],
)
async def test_what_a_later_version_will_do_is_refused_by_name(
    api: Api, daemon: FakeDaemon, field: str, value: object
) -> None:
    answer = await api("POST", "/api/spaces", {"name": "x", field: value})

    assert (answer.status, answer.body["code"], answer.body["field"]) == (422, "unsupported", field)
    assert daemon.host.calls == []


@pytest.mark.parametrize("path", ["/api/spaces/..%2Fetc", "/api/spaces/-x", "/api/spaces/a%00b", "/api/spaces/%ff"])
async def test_a_name_that_can_be_no_name_is_refused(api: Api, path: str) -> None:
    answer = await api("GET", path)

    assert answer.status == 400
    assert answer.body["error"]


async def test_an_odd_flag_is_refused(api: Api, daemon: FakeDaemon) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("DELETE", "/api/spaces/dev?removeVolume=perhaps")

    assert (answer.status, answer.body["field"]) == (400, "removeVolume")
    assert "dev" in daemon.host.spaces


# -- exec -------------------------------------------------------------------------------------------------------------


async def test_exec_takes_a_string_for_the_shell_or_a_list(api: Api, daemon: FakeDaemon) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    script = {"command": "printf '%s' \"$X\"; echo e >&2; exit 7", "env": {"X": "a b"}}
    text = await api("POST", "/api/spaces/dev/exec", script)
    words = await api("POST", "/api/spaces/dev/exec", {"command": ["printf", "%s", "$X"]})

    assert (text.body["stdout"], text.body["stderr"], text.body["exitCode"]) == ("a b", "e\n", 7)
    assert words.body["stdout"] == "$X"
    assert words.body["truncated"] is False
    assert sorted(words.body) == ["durationMs", "exitCode", "stderr", "stdout", "truncated"]


async def test_exec_passes_on_all_it_was_told(api: Api, daemon: FakeDaemon) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    body = {"command": ["cat"], "cwd": "sub", "timeout": 5, "stdin": "é\n"}
    answer = await api("POST", "/api/spaces/dev/exec", body)

    assert answer.body["stdout"] == "é\n"
    assert daemon.host.last_exec is not None
    assert (daemon.host.last_exec.cwd, daemon.host.last_exec.timeout) == ("sub", 5)


async def test_exec_flags_bytes_that_are_no_text(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    text = await api("POST", "/api/spaces/dev/exec", {"command": ["printf", "\\377a"]})
    exact = await api(
        "POST", "/api/spaces/dev/exec", {"command": "cat; printf '\\377'", "stdin": "AP8=", "encoding": "base64"}
    )

    assert (text.body["stdout"], text.body["invalidUtf8"]) == ("\ufffda", True)
    assert (exact.body["stdout"], exact.body["encoding"]) == ("AP//", "base64")
    assert "invalidUtf8" not in exact.body


async def test_exec_wakes_a_paused_space(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})
    await api("POST", "/api/spaces/dev/stop")

    assert (await api("POST", "/api/spaces/dev/exec", {"command": "true"})).body["exitCode"] == 0
    assert (await api("GET", "/api/spaces/dev")).body["space"]["status"] == "running"


async def test_exec_says_when_time_ran_out(api: Api) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("POST", "/api/spaces/dev/exec", {"command": "sleep 60", "timeout": 0.1})

    assert (answer.body["exitCode"], answer.body["signal"], answer.body["timedOut"]) == (137, 9, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "command"),
        ({"command": ""}, "command"),
        ({"command": []}, "command"),
        ({"command": [""]}, "command"),
        ({"command": 1}, "command"),
        ({"command": ["a", 1]}, "command"),
        ({"command": "a\0b"}, "command"),
        ({"command": "x", "timeout": 0}, "timeout"),
        ({"command": "x", "timeout": "soon"}, "timeout"),
        ('{"command": "x", "timeout": NaN}', "timeout"),
        ({"command": "x", "stdin": "?", "encoding": "base64"}, "stdin"),
        ({"command": "x", "encoding": "rot13"}, "encoding"),
        ({"command": "x", "user": "root"}, "user"),
    ],
)
async def test_a_wrong_command_is_refused_with_its_field(api: Api, daemon: FakeDaemon, body: Any, field: str) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("POST", "/api/spaces/dev/exec", body)

    assert (answer.status, answer.body["code"], answer.body["field"]) == (400, "invalid", field)
    assert "exec dev" not in daemon.host.calls


async def test_a_body_may_not_be_larger_than_sixteen_megabytes(api: Api, daemon: FakeDaemon) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})

    answer = await api("POST", "/api/spaces/dev/exec", {"command": "cat", "stdin": "x" * (16 * 1024 * 1024)})

    assert (answer.status, answer.body["code"]) == (413, "too_large")
    assert "exec dev" not in daemon.host.calls


async def test_more_than_ten_commands_run_at_once(
    api: Api, daemon: FakeDaemon, http_server_client: Any, jp_base_url: str, jp_auth_header: dict[str, str]
) -> None:
    """Tornado's client would keep the eleventh waiting, in the test as in the server."""
    await api("POST", "/api/spaces", {"name": "dev"})
    daemon.call(daemon.host.gate.clear)
    client = SimpleAsyncHTTPClient(force_instance=True, max_clients=100)
    url = http_server_client.get_url(f"{jp_base_url}api/spaces/dev/exec")

    commands = [
        asyncio.ensure_future(client.fetch(url, method="POST", headers=jp_auth_header, body='{"command":["true"]}'))
        for _ in range(40)
    ]
    await asyncio.sleep(0.3)
    assert (await api("GET", "/api/spaces/dev")).status == 200
    daemon.call(daemon.host.gate.set)

    assert [answer.code for answer in await asyncio.gather(*commands)] == [200] * 40
    client.close()
