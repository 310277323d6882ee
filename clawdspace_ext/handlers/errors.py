"""Failures on their way out: every one is JSON, with a status from one table."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any

from tornado import web

from .. import errors
from ..wire import Json, dumps, error_to_json

STATUS: dict[type[errors.SpaceError], int] = {
    errors.InvalidRequest: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unsupported: 422,
    errors.Unavailable: 503,
    errors.TimedOut: 504,
    errors.Refused: 502,
    errors.Broken: 500,
}

#: The codes of what HTTP itself refuses, before any verb is asked.
_HTTP_CODES = {
    400: "invalid",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    426: "websocket_only",
    429: "too_many",
}

_LET_IN = "send 'Authorization: Bearer KEY', with a key that 'clawdspace keys add' makes, or log in"

#: Seconds after which a client may try again what was unavailable.
RETRY_AFTER = "1"


def status_of(error: errors.SpaceError) -> int:
    """Return the HTTP status of a failure."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def http_error_to_json(status: int, error: BaseException | None) -> Json:
    """Return what HTTP refused, or a defect of ours, without its details."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return {"error": "something went wrong inside clawdspace", "code": "broken", "remedy": "look at its log"}
    text = error.log_message if isinstance(error, web.HTTPError) else None
    if text and isinstance(error, web.HTTPError) and error.args:
        text = text % error.args
    shape = {"error": text or HTTPStatus(status).phrase, "code": _HTTP_CODES.get(status, "invalid")}
    return shape if text or status != HTTPStatus.FORBIDDEN else shape | {"remedy": _LET_IN}


class JsonErrors(web.RequestHandler):
    """A handler whose failures are JSON, those of tornado and Jupyter included."""

    #: The methods of this path, for a request with another one.
    allowed: Iterable[str] = ()
    #: Whether a part of the body may still be on its way; the connection cannot be used again then.
    body_unread = False

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with what is wrong."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(error, errors.SpaceError):
            status_code, body = status_of(error), error_to_json(error)
        else:
            body = http_error_to_json(status_code, error)
        self.set_status(status_code)
        self.set_header("Content-Type", "application/json")
        if self.body_unread:
            self.set_header("Connection", "close")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(sorted(self.allowed)))
        if status_code in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            self.set_header("Retry-After", RETRY_AFTER)
        self.finish(dumps(body))

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log defects, with where they are; what a client did wrong is the client's to read."""
        if not isinstance(value, errors.SpaceError) or isinstance(value, errors.Broken):
            super().log_exception(typ, value, tb)

    def compute_etag(self) -> str | None:
        """Answers are states, not documents: none is worth hashing."""
        return None


def check_upgrade(handler: web.RequestHandler) -> None:
    """Raise, before anything is upgraded, the refusals that tornado would otherwise write as plain text."""
    if handler.request.headers.get("Upgrade", "").lower() != "websocket":
        raise web.HTTPError(426, "this path is a websocket")
    origin = handler.request.headers.get("Origin")
    check_origin = getattr(handler, "check_origin", None)
    if origin is not None and check_origin is not None and not check_origin(origin):
        raise web.HTTPError(403, "a page of another origin may not open this websocket")
