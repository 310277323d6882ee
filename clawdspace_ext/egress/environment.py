"""What programs in a space are told, so that they find the way out."""

from __future__ import annotations

#: Where the agent's proxy listens, on the space's own loopback.
PORT = 3128
#: Where a space finds the authorities to trust; a place of the space's own, written anew at each start.
CA_PATH = "/tmp/.clawdspace/ca.pem"  # noqa: S108 - a place inside the space

_ADDRESS = f"http://127.0.0.1:{PORT}"
_LOOPBACK = "localhost,127.0.0.1,::1"
_CA_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)


def program_environment(*, own_ca: bool) -> dict[str, str]:
    """Return the variables of every program in a space with a network.

    ALL_PROXY speaks HTTP as well: some clients fail on a SOCKS address.
    """
    found = {name: _ADDRESS for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())}
    found |= dict.fromkeys(("NO_PROXY", "no_proxy"), _LOOPBACK)
    found["NODE_USE_ENV_PROXY"] = "1"
    if own_ca:
        found |= dict.fromkeys(_CA_VARIABLES, CA_PATH)
    return found
