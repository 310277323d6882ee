"""Who may ask a Jupyter server for what: Jupyter's own identities, and named keys that open nothing else."""

from __future__ import annotations

import re
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider, User
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from ..keys import PREFIX, KeyStore, NamedKey
from .refusals import Refusals
from .requesting import local_user
from .route import Action

RESOURCE = "clawdspace"

_CREDENTIAL = re.compile(r"(?:token|bearer)\s+(\S+)", re.IGNORECASE)

#: These know one person, whoever has the token or the password, and give each request another random name.
_ONE_PERSON = (IdentityProvider, PasswordIdentityProvider)


class KeyIdentity(IdentityProvider):
    """Identifies a request by the named key that it has shown; sets no cookie, so that the key opens nothing more."""

    def get_user(self, handler: web.RequestHandler) -> User | None:
        """Return the key's user."""
        key = handler.named_key if isinstance(handler, AccessMixin) else None
        return User(username=key.user, name=key.name, display_name=key.name) if key else None

    def is_token_authenticated(self, handler: web.RequestHandler) -> bool:
        """No page sends such a key by itself, so neither XSRF nor origins matter."""
        return True


class Gate:
    """What the checks of all handlers share; it is the setting ``clawdspace_gate``."""

    def __init__(self, keys: KeyStore) -> None:
        self.keys = keys
        self.key_identity = KeyIdentity()
        self.refusals = Refusals()


class AccessMixin(ExtensionHandlerMixin, JupyterHandler):
    """Authenticates by Jupyter's identity provider or a named key; authorises by Jupyter's authorizer."""

    named_key: NamedKey | None = None

    @property
    def gate(self) -> Gate:
        """The keys, and who tried them in vain."""
        gate: Gate = self.settings["clawdspace_gate"]
        return gate

    async def prepare(self, **kwargs: Any) -> None:
        """Find out who asks.  Nobody unknown passes, whatever the server allows elsewhere."""
        offered = _CREDENTIAL.match(self.request.headers.get("Authorization", ""))
        address = str(self.request.remote_ip)
        if offered and self.gate.refusals.exhausted(address):
            raise web.HTTPError(429, "too many wrong credentials came from this address; wait a minute")
        try:
            if offered and offered[1].startswith(PREFIX):
                self._show_key(offered[1])
            await super().prepare(**kwargs)
            if self.request.method != "OPTIONS" and self.current_user is None:
                raise web.HTTPError(403)
        finally:
            if offered and getattr(self, "_jupyter_current_user", None) is None:
                self.gate.refusals.note(address, offered[1])

    def _show_key(self, key: str) -> None:
        self.named_key = self.gate.keys.verify(key)
        if self.named_key is None:
            raise web.HTTPError(403, "there is no such key, or it was removed")

    @property
    def identity_provider(self) -> IdentityProvider:
        """Who identifies this request."""
        return super().identity_provider if self.named_key is None else self.gate.key_identity

    @property
    def principal(self) -> str:
        """The stable name of who asks."""
        if type(self.identity_provider) in _ONE_PERSON:
            return local_user()
        return str(self.current_user.username)

    async def demand(self, action: Action) -> None:
        """Raise unless the user may do this.

        Asks the authorizer itself: Jupyter's decorator keeps the first action and resource it meets.
        """
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)):
            raise web.HTTPError(403, f"you are not allowed to {action} {RESOURCE}")
