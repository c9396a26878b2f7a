"""
Logging in with the published API client: a password for two tokens, and the later for fresh ones.

Promises: the rules are those of the native login (five wrong passwords in a row lock, an address
may try 20 times a minute); an e-mail address is a person's name here. The access token lasts an
hour, the refresh token a day; used in time it is renewed for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from physicsrunner.errors import InvalidRequest, NotAuthenticated
from physicsrunner.service.access import Identity
from physicsrunner.service.services import Services

ACCESS_S: Final = 3600.0
REFRESH_S: Final = 86_400.0


class Sessions:
    """Tokens for the client."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def login(self, body: Mapping[str, Any], origin: str | None) -> dict[str, str]:
        """Exchange ``{email, password}`` for tokens."""
        email, password = body.get("email"), body.get("password")
        if not isinstance(email, str) or not isinstance(password, str):
            raise InvalidRequest("the body is {email, password}: two texts")
        issued = self._services.accounts.login(email, password, origin=origin, lifetime_s=REFRESH_S)
        return self._pair(issued.token, self._services.access.authenticate(issued.token, origin))

    def refresh(self, body: Mapping[str, Any], origin: str | None) -> dict[str, str]:
        """Exchange ``{token}``, a refresh token, for fresh tokens."""
        token = body.get("token")
        if not isinstance(token, str) or not token:
            raise NotAuthenticated("the body has no text 'token': a refresh token")
        who = self._services.access.authenticate(token, origin)
        return self._pair(self._services.access.tokens.refresh(who).token, who)

    def _pair(self, refresh: str, who: Identity) -> dict[str, str]:
        access = self._services.access.tokens.refresh(who, ACCESS_S).token
        return {"accessToken": access, "refreshToken": refresh}
