"""What a space reaches, and what it does not: both engines, a daemon of its own, servers on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pip._internal.models.index import PyPI

from clawdspace_ext import daemon_process, paths
from clawdspace_ext.client import SpacesClient
from clawdspace_ext.spaces import MIB, ExecRequest, Network, SpaceSpec
from support.home import Home

SPEC = SpaceSpec(memory=512 * MIB)
#: An address of this machine that the administrator allows here; all its others stay closed.
ALLOWED = "127.0.0.2"
LARGE = bytes(range(256)) * 4096 * 50


class Handler(BaseHTTPRequestHandler):
    """Answers with what was asked, something large, or a redirection to where the query says."""

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        path, _, query = self.path.partition("?")
        body = LARGE if path == "/large" else b"outside"
        self.send_response(302 if path == "/redirect" else 200)
        if path == "/redirect":
            self.send_header("Location", query)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(hashlib.sha256(body).hexdigest().encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Listens on every address of this machine and keeps the paths it was asked for."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[str] = []
        super().__init__(("::", 0), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def client(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpacesClient]:
    """A client of a daemon that lets ALLOWED through, with a space named dev."""
    monkeypatch.setenv("CLAWDSPACE_EGRESS_ALLOW", ALLOWED)
    client = home.client()
    client.create("dev", SPEC)
    yield client
    client.close()


def python(client: SpacesClient, script: str, space: str = "dev") -> str:
    """Run a script in a space and return what it printed."""
    request = ExecRequest(("python3", "-c", textwrap.dedent(script)), timeout=120)
    result = client.exec(space, request)
    assert result.exit_code == 0, result.stderr.decode()
    return result.stdout.decode().strip()


def own_addresses() -> list[str]:
    """Return this machine's addresses."""
    listed = json.loads(subprocess.run(["ip", "-json", "address"], stdout=subprocess.PIPE, check=True).stdout)
    found = [entry["local"] for link in listed for entry in link["addr_info"]]
    return [f"[{address}]" if ":" in address else address for address in found]


ATTEMPTS = """
import json, socket
def ask(first):
    with socket.create_connection(("127.0.0.1", 3128), 20) as proxy:
        proxy.sendall(first.encode() + b"\\r\\n\\r\\n")
        return proxy.recv(4096).decode().splitlines()[0].split()[1]
def straight(host):
    try:
        socket.create_connection((host.strip("[]"), PORT), 2).close()
    except OSError:
        return None
    return "connected"
hosts = HOSTS
print(json.dumps({host: [
    ask(f"CONNECT {host}:PORT HTTP/1.1"), ask(f"GET http://{host}:PORT/ HTTP/1.1"), straight(host)
] for host in hosts}))
"""


def test_no_spelling_of_this_machine_is_reached(client: SpacesClient, server: Server) -> None:
    hosts = [
        *own_addresses(), "127.0.0.1", "127.0.0.3", "localhost", "LOCALHOST.", "localhost.localdomain", "ip6-localhost",
        "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "2130706433", "0x7f000001", "0177.0.0.1",
        "127.1", "127.0.0.1.", "ⓛocalhost", "[fe80::1%25lo]", "host.docker.internal", "172.17.0.1", "169.254.169.254",
        socket.gethostname(),
    ]  # fmt: skip

    found = json.loads(
        python(client, ATTEMPTS.replace("PORT", str(server.port)).replace("HOSTS", repr(hosts))), strict=False
    )

    assert {host: answers for host, answers in found.items() if not set(answers) <= {"400", "403", "502", None}} == {}
    assert set(found["127.0.0.1"]) == {"403", None}
    assert server.seen == []


def test_a_redirection_leads_nowhere_else(client: SpacesClient, server: Server) -> None:
    for target in (f"http://127.0.0.1:{server.port}/inside", f"http://169.254.169.254:{server.port}/inside"):
        said = python(
            client,
            f"""
            import urllib.request as u
            proxied = u.build_opener(u.ProxyHandler({{"http": "http://127.0.0.1:3128"}}))
            u.proxy_bypass = lambda host, proxies=None: False
            try:
                print(proxied.open("http://{ALLOWED}:{server.port}/redirect?{target}", timeout=20).status)
            except OSError as error:
                print(error)
            """,
        )

        assert "403" in said
    assert not any(path.startswith("/inside") for path in server.seen)


def test_an_allowed_host_is_reached_by_requests_and_tunnels(client: SpacesClient, server: Server) -> None:
    said = python(
        client,
        f"""
        import http.client, urllib.request as u
        url = "http://{ALLOWED}:{server.port}/"
        print(u.urlopen(url, timeout=20).read().decode())
        print(u.urlopen(url, data=b"x" * 3_000_000, timeout=20).read().decode())
        tunnel = http.client.HTTPConnection("127.0.0.1", 3128)
        tunnel.set_tunnel("{ALLOWED}", {server.port})
        for path in ("/one", "/two"):
            tunnel.request("GET", path)
            print(tunnel.getresponse().read().decode())
        """,
    )

    assert said.split() == ["outside", hashlib.sha256(b"x" * 3_000_000).hexdigest(), "outside", "outside"]


def test_a_large_download_arrives_whole_and_the_daemon_stays_small(client: SpacesClient, server: Server) -> None:
    daemon = daemon_process.running()
    assert daemon is not None
    before = peak_memory(daemon.pid)

    said = python(
        client,
        f"""
        import hashlib, time, urllib.request as u
        print(hashlib.sha256(u.urlopen("http://{ALLOWED}:{server.port}/large", timeout=60).read()).hexdigest())
        """,
    )

    assert said == hashlib.sha256(LARGE).hexdigest()
    assert peak_memory(daemon.pid) - before < 16 * MIB


def peak_memory(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_server_inside_the_space_is_reached_without_the_proxy(client: SpacesClient) -> None:
    said = python(
        client,
        """
        import http.server, threading, urllib.request as u
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for host in ("127.0.0.1", "localhost"):
            print(u.urlopen(f"http://{host}:{server.server_port}/", timeout=20).status)
        """,
    )

    assert said.split() == ["200", "200"]


def test_a_space_without_a_network_has_no_proxy(client: SpacesClient) -> None:
    client.create("alone", SpaceSpec(memory=512 * MIB, network=Network.NONE))

    said = python(
        client,
        """
        import os, socket
        print([name for name in os.environ if "proxy" in name.lower()])
        print(socket.socket().connect_ex(("127.0.0.1", 3128)) != 0)
        """,
        "alone",
    )

    assert said.split("\n") == ["[]", "True"]
    assert client.get("alone").record.spec.network is Network.NONE
    assert client.get("dev").record.spec.network is Network.INTERNET


FETCH = "import urllib.request as u; print(u.urlopen('http://{}:{}/', timeout=20).read().decode())"


def test_the_network_is_back_after_sleep_a_halt_and_the_daemons_death(
    client: SpacesClient, server: Server, home: Home
) -> None:
    fetch = FETCH.format(ALLOWED, server.port)

    client.pause("dev")
    assert python(client, fetch) == "outside"
    client.stop("dev")
    assert python(client, fetch) == "outside"
    home.kill_daemon()
    again = home.client()
    assert python(again, fetch) == "outside"
    again.close()


def test_a_certificate_of_the_machines_own_authority_is_trusted(
    home: Home, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=test", "-addext", f"subjectAltName=IP:{ALLOWED}"]
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run([*make, *subject], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("CLAWDSPACE_EGRESS_ALLOW", ALLOWED)
    client = home.client()
    client.create("dev", SPEC)

    assert python(client, FETCH.format(ALLOWED, server.port).replace("http:", "https:")) == "outside"
    client.stop("dev")
    assert python(client, FETCH.format(ALLOWED, server.port).replace("http:", "https:")) == "outside"
    client.close()


def test_a_package_is_installed_from_the_usual_index(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    index = f"{PyPI.simple_url}/six/"
    try:
        with urllib.request.urlopen(index, timeout=10):
            pass
    except OSError as error:
        pytest.skip(f"the index cannot be reached from this machine: {error}")
    # The index may be a mirror inside the machine's network, under the usual name.
    monkeypatch.setenv("CLAWDSPACE_EGRESS_ALLOW", f"{urlsplit(index).hostname},{PyPI.file_storage_domain}")
    client = home.client()
    client.create("dev", SPEC)

    install = "python3 -m pip install --no-cache-dir --force-reinstall --no-deps six && python3 -c 'import six'"
    result = client.exec("dev", ExecRequest(("sh", "-c", install), timeout=120))

    assert result.exit_code == 0, result.stderr.decode() + result.stdout.decode()
    client.close()


def test_the_daemon_passes_on_by_the_machines_own_proxy(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nby proxy\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        client = home.client()
        client.create("dev", SPEC)

        assert python(client, FETCH.format("unknown.invalid", 80)) == "by proxy"
        client.close()
    assert asked[0].startswith(b"CONNECT unknown.invalid:80 HTTP/1.1")


def test_settings_that_make_no_sense_cost_the_network_and_nothing_else(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:secret@127.0.0.1:1080")
    client = home.client()
    client.create("dev", SPEC)

    assert python(client, "import os; print(os.environ.get('https_proxy'))") == "None"
    log = paths.log_path().read_text()
    assert "spaces stay without a network: HTTPS_PROXY names no HTTP proxy" in log
    assert "secret" not in log
    client.close()
