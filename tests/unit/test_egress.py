"""Connections of spaces: whom the daemon dials, and what it carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from clawdspace_ext.egress import Gateway, authorities
from clawdspace_ext.egress import dialer as dialer_module
from clawdspace_ext.egress.addresses import Resolver
from clawdspace_ext.egress.dialer import Dialer
from clawdspace_ext.egress.policy import Address, Policy
from clawdspace_ext.egress.upstream import Upstream
from clawdspace_ext.errors import InvalidRequest, Refused
from clawdspace_ext.service import Spaces
from clawdspace_ext.spaces import ExecRequest, Network, SpaceSpec
from clawdspace_ext.testing import LocalEngine

pytestmark = pytest.mark.asyncio

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


class Names(Resolver):
    """A resolver that knows what a test tells it, and how often it was asked."""

    def __init__(self, **names: Sequence[str]) -> None:
        super().__init__()
        self._names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked = 0

    async def resolve(self, name: str) -> Sequence[Address]:
        self.asked += 1
        if name not in self._names:
            raise Refused(f"there is no address of {name}", reason="unreachable")
        return [ip_address(text) for text in self._names[name]]


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, host, 0)  # type: ignore[arg-type]
    yield server.sockets[0].getsockname()[1]
    server.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()


def dialer(*allow: str, upstream: Upstream | None = None, **names: Sequence[str]) -> Dialer:
    return Dialer(Policy(frozenset(allow)), upstream or Upstream(), Names(**names))


async def refusal(dialer: Dialer, host: str, port: int) -> str | None:
    with pytest.raises(Refused) as refused:
        await dialer.connect(host, port)
    return refused.value.reason


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "[::ffff:127.0.0.1]", "169.254.169.254", "inside.example", "0.0.0.0"]
)
async def test_what_is_inside_is_denied(host: str) -> None:
    met = []
    async with serving(lambda reader, writer: met.append(writer)) as port:
        names = {"localhost": ["127.0.0.1", "::1"], "inside_example": ["192.168.1.1", "127.0.0.1"]}

        assert await refusal(dialer(**names), host, port) == "denied"
    assert met == []


async def test_of_a_name_with_inner_and_public_addresses_only_the_public_ones_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    async def connect(host: str, port: int, limit: int) -> None:
        tried.append(host)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(dialer_module.asyncio, "open_connection", connect)

    assert await refusal(dialer(mixed_example=["127.0.0.1", "8.8.8.8", "10.0.0.1"]), "mixed.example", 80) == (
        "unreachable"
    )
    assert tried == ["8.8.8.8"]


async def test_a_name_is_resolved_once_and_its_address_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(rebinding_example=["8.8.8.8"])
    tried = []

    async def connect(host: str, port: int, limit: int) -> None:
        tried.append(host)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(dialer_module.asyncio, "open_connection", connect)

    await refusal(Dialer(Policy(), Upstream(), names), "rebinding.example", 80)

    assert (names.asked, tried) == (1, ["8.8.8.8"])


async def test_this_machines_own_addresses_are_denied_even_if_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "is_own", lambda address: str(address) == "8.8.8.8")

    assert await refusal(dialer(), "8.8.8.8", 80) == "denied"


async def test_an_allowed_host_is_reached_wherever_it_is() -> None:
    async with serving(greet) as port:
        reader, writer = await dialer("mirror.example", mirror_example=["127.0.0.1"]).connect("Mirror.example.", port)

        assert await reader.read() == b"hello"
        writer.close()


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async with serving(greet) as port:
        found = dialer("mirror.example", mirror_example=["127.0.0.9", "127.0.0.1"])
        reader, writer = await found.connect("mirror.example", port)

        assert await reader.read() == b"hello"
        writer.close()


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    assert await refusal(Dialer(Policy(), Upstream(), Resolver()), "no-such-name.invalid", 80) == "unreachable"


class Proxy:
    """A proxy of the machine, that answers ``answer`` and greets."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.answer = answer
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await greet(reader, writer)


def behind(port: int, **more: str) -> Upstream:
    return Upstream.from_environment({"HTTPS_PROXY": f"http://ann:p%40ss@127.0.0.1:{port}", **more})


async def test_behind_a_proxy_connections_go_through_it_and_it_resolves_names() -> None:
    proxy = Proxy()
    async with serving(proxy.serve) as port:
        reader, writer = await dialer(upstream=behind(port)).connect("only.the.proxy.knows.example", 443)

        assert await reader.read() == b"hello"
        writer.close()
    target = b"only.the.proxy.knows.example:443"
    login = b"Proxy-Authorization: Basic YW5uOnBAc3M="
    assert proxy.heads == [b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n" % (target, target, login)]


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "inside.example", "2130706433"])
async def test_behind_a_proxy_what_is_inside_is_denied_too(host: str) -> None:
    proxy = Proxy()
    async with serving(proxy.serve) as port:
        found = dialer(upstream=behind(port), inside_example=["8.8.8.8", "10.0.0.1"])

        assert await refusal(found, host, 443) == "denied"
    assert proxy.heads == []


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 No\r\n\r\n", b"garbage\r\n\r\n", b"", b"x" * 100_000, b"HTTP/1.1\r\n\r\n"]
)
async def test_a_proxy_that_refuses_or_lies_is_reported(answer: bytes) -> None:
    async with serving(Proxy(answer).serve) as port:
        assert await refusal(dialer(upstream=behind(port)), "8.8.8.8", 443) == "unreachable"


async def test_hosts_exempt_from_the_proxy_are_reached_directly() -> None:
    async with serving(greet) as port:
        upstream = behind(1, NO_PROXY=".example, other")
        found = dialer("a.example", upstream=upstream, a_example=["127.0.0.1"])
        reader, writer = await found.connect("a.example", port)

        assert await reader.read() == b"hello"
        writer.close()


@pytest.mark.parametrize("text", ["socks5://127.0.0.1:1", "http://", "http://host:port", "http://ann:secret@:80"])
async def test_what_is_no_proxy_is_refused_without_telling_its_password(text: str) -> None:
    with pytest.raises(InvalidRequest, match="HTTP_PROXY") as refused:
        Upstream.from_environment({"http_proxy": text})

    assert "secret" not in str(refused.value)


async def test_authorities_of_the_machine_are_added_to_the_usual_ones(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("ca")
    certificate = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    (folder / "system.pem").write_text(certificate.format("usual"))
    monkeypatch.setattr(authorities, "BUNDLES", (folder / "system.pem",))
    monkeypatch.setattr(authorities, "FOLDERS", (folder / "own",))

    assert authorities.bundle({}) is None

    (folder / "own").mkdir()
    (folder / "own/company.crt").write_text(certificate.format("company"))
    (folder / "own/readme.txt").write_text("no certificate")
    found = (authorities.bundle({}) or b"").decode()

    assert found.count("BEGIN CERTIFICATE") == 2
    assert "usual" in found
    assert "company" in found

    (folder / "named.pem").write_text(certificate.format("named"))
    found = (authorities.bundle({"SSL_CERT_FILE": str(folder / "named.pem")}) or b"").decode()

    assert "usual" not in found
    assert "named" in found


async def test_programs_of_a_space_with_a_network_learn_the_way_out(tmp_path: Path) -> None:
    spaces = Spaces([LocalEngine(tmp_path)], Gateway(Policy(), Upstream()))
    await spaces.begin()
    spec = SpaceSpec(env={"NO_PROXY": "mine"})
    await spaces.create("dev", spec, owner="me")
    await spaces.create("alone", replace(spec, network=Network.NONE), owner="me")
    show = ExecRequest(("sh", "-c", "echo $https_proxy $HTTP_PROXY $no_proxy $NO_PROXY"), env={"HTTP_PROXY": "call"})

    assert (await spaces.exec("dev", show)).stdout == b"http://127.0.0.1:3128 call localhost,127.0.0.1,::1 mine\n"
    assert spaces.environment(await spaces.get("alone")) == {"NO_PROXY": "mine"}
    await spaces.close()
