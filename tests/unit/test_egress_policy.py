"""Which hosts, addresses and ports a space may reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawdspace_ext.egress.addresses import is_own
from clawdspace_ext.egress.policy import Policy, is_public, read_host
from clawdspace_ext.errors import InvalidRequest, Refused


def words(text: str) -> list[str]:
    return text.split()


NOT_PUBLIC = words("""
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.254 127.0.0.1 127.255.0.1 169.254.169.254 172.16.0.1 172.31.0.1
    192.0.0.1 192.0.0.9 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1
    2001:0:1::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 3fff::1 fc00::1 fd00:ec2::254 fd7a:115c:a1e0::1 fe80::1
    fec0::1 ff02::1 4000::1
""")
PUBLIC = words("1.1.1.1 8.8.8.8 151.101.0.1 2606:4700::1111 2a00:1450:4001:82a::200e 2001:4860:4860::8888")

PRIVATE_NETWORKS = [
    ip_network(text)
    for text in words(
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16 "
        "198.18.0.0/15 224.0.0.0/4 240.0.0.0/4 ::1/128 ::ffff:0:0/96 64:ff9b::/96 fc00::/7 fe80::/10 ff00::/8"
    )
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_what_is_not_of_the_public_internet_is_closed(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_the_public_internet_is_open(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.one_of(*(st.ip_addresses(network=network) for network in PRIVATE_NETWORKS)))
def test_no_address_of_a_private_network_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_no_spelling_of_an_ipv4_address_inside_an_ipv6_one_is_public(address: IPv4Address) -> None:
    for prefix in ("::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::"):
        assert not is_public(IPv6Address(f"{prefix}{address}"))
    assert not is_public(IPv6Address((0x2002 << 112) | (int(address) << 80)))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "invalid"),
        (".", "invalid"),
        ("a..b", "invalid"),
        ("-a", "invalid"),
        ("a" * 64 + ".com", "invalid"),
        (".".join(["a" * 60] * 5), "invalid"),
        ("user@example.com", "invalid"),
        ("example.com/path", "invalid"),
        ("example.com:80", "invalid"),
        ("exa mple.com", "invalid"),
        ("example.com\r\nHost: evil", "invalid"),
        ("example.com\0", "invalid"),
        ("[example.com]:80", "invalid"),
        ("\ud800.com", "invalid"),
        ("fe80::1%eth0", "denied"),
        ("[fe80::1%25eth0]", "denied"),
        ("2130706433", "denied"),
        ("0x7f000001", "denied"),
        ("0X7F.1", "denied"),
        ("017700000001", "denied"),
        ("0177.0.0.1", "denied"),
        ("127.1", "denied"),
        ("127.0.0.1.1", "denied"),
        ("256.0.0.1", "denied"),
        ("１２７.1", "denied"),  # noqa: RUF001 - that is the point
        ("example.0x", "denied"),
    ],
)
def test_odd_spellings_are_refused(host: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        read_host(host)

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("host", "name", "address"),
    [
        ("Example.COM.", "example.com", None),
        ("bücher.example", "xn--bcher-kva.example", None),
        ("ⓛocalhost", "localhost", None),
        ("my_host-1.example", "my_host-1.example", None),
        ("127.0.0.1.", "127.0.0.1", "127.0.0.1"),
        ("１２７.０.０.１", "127.0.0.1", "127.0.0.1"),  # noqa: RUF001 - that is the point
        ("[::1]", "::1", "::1"),
        ("0:0::0001", "::1", "::1"),
    ],
)
def test_every_host_has_one_spelling(host: str, name: str, address: str | None) -> None:
    assert read_host(host) == (name, address and ip_address(address))


@given(st.text(max_size=300))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    try:
        name, address = read_host(text)
    except Refused:
        return
    assert read_host(name) == (name, address)
    assert name.isascii()


@pytest.mark.parametrize("port", [22, 80, 443, 1024, 8080, 65535])
def test_ssh_the_web_and_high_ports_are_open(port: int) -> None:
    assert Policy().target("example.com", port).port == port


@pytest.mark.parametrize("port", [-1, 0, 1, 21, 23, 25, 53, 110, 445, 465, 587, 1023, 65536])
def test_other_ports_are_closed(port: int) -> None:
    with pytest.raises(Refused, match="closed"):
        Policy(frozenset({"example.com"})).target("example.com", port)


def test_allowed_hosts_are_trusted_in_every_spelling() -> None:
    policy = Policy.from_environment({"CLAWDSPACE_EGRESS_ALLOW": " Mirror.Example. ,10.0.0.7,, "})

    assert policy.target("mirror.example", 443).trusted
    assert policy.target("MIRROR.example.", 443).trusted
    assert policy.target("10.0.0.7", 443).trusted
    assert not policy.target("sub.mirror.example", 443).trusted
    assert not policy.target("10.0.0.8", 443).trusted


@pytest.mark.parametrize("text", ["*", "*.example.com", "http://example.com", "10.0.0.0/8"])
def test_what_is_no_host_cannot_be_allowed(text: str) -> None:
    with pytest.raises(InvalidRequest, match="CLAWDSPACE_EGRESS_ALLOW"):
        Policy.from_environment({"CLAWDSPACE_EGRESS_ALLOW": text})


def test_this_machines_addresses_are_its_own() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("8.8.8.8"))
