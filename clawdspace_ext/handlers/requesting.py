"""A request on the daemon's socket, as a verb sees it."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterable, Mapping
from urllib.parse import unquote

from tornado import httputil

from ..wire import PRINCIPAL_HEADER
from .route import Request


def local_user() -> str:
    """Return the name of this process's user, whatever its environment says."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())  # a user without an entry in /etc/passwd


def request_of(
    request: httputil.HTTPServerRequest, path: Mapping[str, str], chunks: AsyncIterable[bytes] | None = None
) -> Request:
    """Return what was asked; ``chunks`` is the body of a streamed route."""
    principal = unquote(request.headers.get(PRINCIPAL_HEADER, "")) or local_user()
    query = {name: values[-1].decode("utf-8", "replace") for name, values in request.query_arguments.items()}
    if chunks is None:
        return Request(principal, path, query, request.body)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(principal, path, query, headers=headers, chunks=chunks)
