"""The certificate authorities that this machine trusts beyond the usual ones, as behind a company's proxy."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

#: Where an administrator puts authorities: Debian and its kin, Fedora and its kin.
FOLDERS = (Path("/usr/local/share/ca-certificates"), Path("/etc/pki/ca-trust/source/anchors"))
#: Where the system keeps all it trusts, in one file.
BUNDLES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
MAX_BUNDLE = 8 * 1024 * 1024


def bundle(environ: Mapping[str, str]) -> bytes | None:
    """Return what a space should trust, as PEM, or None when this machine trusts nothing unusual."""
    named = environ.get("SSL_CERT_FILE")
    own = [text for folder in FOLDERS for path in sorted(folder.glob("**/*")) if (text := _read(path))]
    if not named and not own:
        return None
    text = _read(Path(named)) if named else b""
    text = text or next(filter(None, map(_read, _system_bundles())), b"")
    missing = [certificate for certificate in own if certificate.strip() not in text]
    joined = b"\n".join([text, *missing])
    return joined if joined.strip() and len(joined) <= MAX_BUNDLE else None


def _system_bundles() -> list[Path]:
    usual = ssl.get_default_verify_paths().cafile
    return [*BUNDLES, *([Path(usual)] if usual else [])]


def _read(path: Path) -> bytes:
    """Return a file of PEM certificates, or nothing."""
    try:
        text = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_BUNDLE else b""
    except OSError:
        return b""
    return text if b"-----BEGIN CERTIFICATE-----" in text else b""
