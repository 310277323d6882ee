"""What every service of the agent shares: how it refuses."""

from __future__ import annotations

import errno

MYPY = False
if MYPY:
    from typing import Any, Dict, Optional

_CODES = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.EEXIST: "exists",
    errno.ENOTEMPTY: "not_empty",
    errno.EISDIR: "is_directory",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "read_only",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.EINVAL: "invalid",
    errno.ELOOP: "invalid",
    errno.ENAMETOOLONG: "invalid",
    errno.ENXIO: "invalid",
    errno.ECONNREFUSED: "nobody_listens",
}


class Refuse(Exception):
    """A service cannot do what was asked.  ``code`` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def refusal(error: OSError, what: str) -> Refuse:
    """Return the refusal that says what the operating system said about ``what``."""
    return Refuse(_CODES.get(error.errno or 0, "failed"), "%s: %s" % (what, error.strerror or error))


def text_of(args: Dict[str, Any], name: str, default: Optional[str] = None) -> str:
    """Return a text argument.  Raises Refuse when it is missing or no text."""
    value = args.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise Refuse("invalid", "%s must be a text without NUL characters" % name)
    return value


def number_of(args: Dict[str, Any], name: str, default: int = 0) -> int:
    """Return a whole number that is not negative.  Raises Refuse otherwise."""
    value = args.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refuse("invalid", "%s must be a whole number, 0 or more" % name)
    return value
