"""Who gets in: nobody without credentials, a named key to nothing else, and everybody by their own name."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

import pytest
from jupyter_server.auth import Authorizer, IdentityProvider, User
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect
from traitlets.config import Config

from clawdspace_ext.handlers.requesting import local_user
from clawdspace_ext.handlers.route import Route
from clawdspace_ext.handlers.routes import FORWARDED, SOCKETS
from clawdspace_ext.keys import KeyStore
from support.api import Api
from support.fake_daemon import FakeDaemon

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
OURS = [route for route in (*FORWARDED, *SOCKETS) if not route.local and route.action != "open"]
PATHS = sorted({route.path for route in OURS} | {"/api/spaces/{name}/nonsense", "/api/health/nonsense"})
CREDENTIALS = {
    "none": {},
    "token": {"Authorization": "token wrong"},
    "bearer": {"Authorization": "Bearer wrong"},
    "key": {"Authorization": "Bearer csk_wrong"},
    "principal": {"X-Clawdspace-Principal": "root"},
    "cookie": {"Cookie": "username-localhost-8888=wrong; _xsrf=wrong", "X-XSRFToken": "wrong"},
}


@pytest.fixture(params=[False, True], ids=["closed-server", "open-server"])
def jp_server_config(jp_server_config: Config, request: pytest.FixtureRequest) -> Config:
    """Ours stay closed even where the server allows handlers that forgot to ask."""
    jp_server_config.ServerApp.allow_unauthenticated_access = request.param
    return jp_server_config


@pytest.mark.parametrize("credentials", CREDENTIALS.values(), ids=CREDENTIALS.keys())
async def test_no_method_of_any_path_works_without_good_credentials(
    api: Api, daemon: FakeDaemon, credentials: dict[str, str]
) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})
    daemon.host.calls.clear()

    for path in PATHS:
        for method in METHODS:
            url = re.sub(r"\{\w+\}", "dev", path)
            body = None if method in ("GET", "HEAD") else {"name": "evil", "command": "true"}
            answer = await api(method, url, body, headers=credentials)

            assert answer.status in (401, 403), (method, path, answer)
            assert "Set-Cookie" not in answer.headers or "username" not in answer.headers["Set-Cookie"]
            if method != "HEAD":
                assert answer.headers["Content-Type"] == "application/json"
                assert answer.body["error"]
                assert answer.body["code"] == "forbidden"

    assert daemon.host.calls == []
    assert list(daemon.host.spaces) == ["dev"]


async def test_the_servers_token_opens_as_token_and_as_bearer(api: Api, jp_serverapp: Any) -> None:
    token = jp_serverapp.identity_provider.token

    for scheme in ("token", "Bearer", "bearer"):
        assert (await api("GET", "/api/spaces", headers={"Authorization": f"{scheme} {token}"})).status == 200


async def test_a_named_key_is_a_user_of_its_own(api: Api, keys: KeyStore) -> None:
    key = keys.create("ci")

    for number, scheme in enumerate(("Bearer", "token")):
        answer = await api("POST", "/api/spaces", {"name": f"s{number}"}, headers={"Authorization": f"{scheme} {key}"})

        assert (answer.status, answer.body["space"]["owner"]) == (201, "key:ci")
        assert "username" not in answer.headers.get("Set-Cookie", "")


async def test_a_named_key_opens_nothing_but_the_spaces_api(api: Api, keys: KeyStore) -> None:
    header = {"Authorization": f"Bearer {keys.create('ci')}"}

    for path in ("/api/contents", "/api/kernels", "/api/sessions", "/api/config/x", "/api/me", "/tree", "/files/x"):
        assert (await api("GET", "/api/spaces", headers=header)).status == 200
        answer = await _status(api, "GET", path, header)
        assert answer in (302, 403), path


async def test_a_removed_key_opens_nothing(api: Api, keys: KeyStore) -> None:
    header = {"Authorization": f"Bearer {keys.create('ci')}"}
    assert (await api("GET", "/api/spaces", headers=header)).status == 200
    keys.remove("ci")

    answer = await api("GET", "/api/spaces", headers=header)

    assert (answer.status, answer.body["code"]) == (403, "forbidden")


async def test_a_key_in_the_url_is_not_taken(api: Api, keys: KeyStore) -> None:
    key = keys.create("ci")

    for query in (f"key={key}", f"token={key}"):
        assert (await api("GET", f"/api/spaces?{query}", headers={})).status == 403


async def test_a_wrong_key_is_refused_in_spite_of_a_good_cookie(api: Api) -> None:
    cookie = await _cookie(api)

    answer = await api("GET", "/api/spaces", headers={"Cookie": cookie, "Authorization": "Bearer csk_wrong"})

    assert answer.status == 403


async def test_who_asks_cannot_be_told_by_the_client(api: Api, jp_auth_header: dict[str, str]) -> None:
    answer = await api(
        "POST", "/api/spaces", {"name": "dev"}, headers=jp_auth_header | {"X-Clawdspace-Principal": "root"}
    )

    assert answer.body["space"]["owner"] == local_user()


async def test_a_page_needs_the_xsrf_token(api: Api, daemon: FakeDaemon) -> None:
    cookie, token = await _cookie(api), "0123456789abcdef" * 2
    assert (await api("GET", "/api/spaces", headers={"Cookie": cookie})).status == 200

    refused = await api("POST", "/api/spaces", {"name": "dev"}, headers={"Cookie": cookie})
    assert (refused.status, refused.body["code"]) == (403, "forbidden")
    assert daemon.host.calls == []

    page = {"Cookie": f"{cookie}; _xsrf={token}", "X-XSRFToken": token}
    assert (await api("POST", "/api/spaces", {"name": "dev"}, headers=page)).status == 201


async def test_another_sites_page_gets_nothing(api: Api, daemon: FakeDaemon) -> None:
    cookie = await _cookie(api)
    evil = {"Cookie": cookie, "Origin": "https://evil.test", "Referer": "https://evil.test/"}

    for method, path in (("GET", "/api/spaces"), ("POST", "/api/spaces"), ("DELETE", "/api/spaces/dev")):
        answer = await api(method, path, {"name": "dev"} if method == "POST" else None, headers=evil)
        assert answer.status in (403, 404)
        assert answer.body["error"]
        assert "spaces" not in answer.body
    assert daemon.host.calls == []


async def test_a_name_that_was_rebound_to_this_address_gets_nothing(api: Api, jp_auth_header: dict[str, str]) -> None:
    answer = await api("GET", "/api/spaces", headers=jp_auth_header | {"Host": "evil.test"})

    assert (answer.status, answer.body["code"]) == (403, "forbidden")
    assert (await api("GET", "/api/health", headers={"Host": "evil.test"})).status == 403


async def test_a_websocket_asks_for_credentials_and_origin(
    api: Api, jp_http_port: int, jp_base_url: str, jp_auth_header: dict[str, str], daemon: FakeDaemon
) -> None:
    await api("POST", "/api/spaces", {"name": "dev"})
    cookie = await _cookie(api)
    url = f"ws://localhost:{jp_http_port}{jp_base_url}api/spaces/dev/exec/stream"

    for headers in ({}, {"Authorization": "Bearer csk_x"}, {"Cookie": cookie, "Origin": "https://evil.test"}):
        with pytest.raises(HTTPClientError) as refused:
            await websocket_connect(HTTPRequest(url, headers=headers))
        assert refused.value.code == 403
    plain = await api("GET", "/api/spaces/dev/exec/stream")

    assert (plain.status, plain.body["code"]) == (426, "websocket_only")
    assert "open_exec dev" not in daemon.host.calls


async def test_an_address_with_a_hundred_wrong_credentials_has_to_wait(
    api: Api, jp_auth_header: dict[str, str]
) -> None:
    for number in (*[0] * 50, *range(100)):
        header = {"Authorization": f"Bearer wrong{number}"}
        assert (await api("GET", "/api/spaces", headers=header)).status == 403

    answer = await api("GET", "/api/spaces", headers={"Authorization": "Bearer wrong"})
    assert (answer.status, answer.body["code"]) == (429, "too_many")
    assert answer.headers["Retry-After"]
    assert (await api("GET", "/api/spaces")).status == 429
    assert (await api("GET", "/api/spaces", headers={"Cookie": "x=y"})).status == 403


class OnlyReading(Authorizer):
    """Lets everybody read, nobody else do anything, and keeps what it was asked."""

    asked: list[tuple[str, str, str]]

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        self.asked = [*getattr(self, "asked", []), (handler.request.method, action, resource)]
        return action == "read"


class TestAuthorizer:
    """Jupyter's authorizer decides, verb by verb."""

    @pytest.fixture
    def jp_server_config(self, jp_server_config: Config) -> Config:
        jp_server_config.ServerApp.authorizer_class = OnlyReading
        return jp_server_config

    async def test_each_verb_asks_for_its_own_action(
        self, api: Api, daemon: FakeDaemon, jp_serverapp: Any, jp_auth_header: dict[str, str]
    ) -> None:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        for route in OURS:
            method, headers = (route.method, {}) if isinstance(route, Route) else ("GET", upgrade)
            answer = await api(method, re.sub(r"\{\w+\}", "dev", route.path), headers=jp_auth_header | headers)
            if route.action != "read":
                assert (answer.status, answer.body["code"]) == (403, "forbidden")

        methods = [route.method if isinstance(route, Route) else "GET" for route in OURS]
        actions = [route.action for route in OURS]
        assert jp_serverapp.authorizer.asked == list(zip(methods, actions, ["clawdspace"] * len(OURS), strict=True))
        assert daemon.host.calls == []


class ByName(IdentityProvider):
    """Believes who a request says it is."""

    async def get_user(self, handler: Any) -> User | None:  # type: ignore[override]  # it may be a coroutine
        name = handler.request.headers.get("X-Test-User")
        return User(unquote(name)) if name else None

    def is_token_authenticated(self, handler: Any) -> bool:
        return True


class TestIdentities:
    """People who are known by name own what they make."""

    @pytest.fixture
    def jp_server_config(self, jp_server_config: Config) -> Config:
        jp_server_config.ServerApp.identity_provider_class = ByName
        return jp_server_config

    async def test_spaces_are_owned_by_who_made_them(self, api: Api) -> None:
        for number, name in enumerate(("alice", "bøb & co")):
            answer = await api("POST", "/api/spaces", {"name": f"s{number}"}, headers={"X-Test-User": quote(name)})

            assert answer.body["space"]["owner"] == name

    async def test_a_named_key_works_beside_them(self, api: Api, keys: KeyStore) -> None:
        header = {"Authorization": f"Bearer {keys.create('ci')}"}

        assert (await api("POST", "/api/spaces", {"name": "s"}, headers=header)).body["space"]["owner"] == "key:ci"
        assert (await api("GET", "/api/spaces", headers={})).status == 403


async def _status(api: Api, method: str, path: str, headers: dict[str, str]) -> int:
    try:
        return (await api(method, path, headers=headers)).status
    except ValueError:
        return 302  # a page to log in


async def _cookie(api: Api) -> str:
    """The login cookie that Jupyter gives whoever comes with its token."""
    answer = await api("GET", "/api/status")
    return str(answer.headers["Set-Cookie"].split(";")[0])
