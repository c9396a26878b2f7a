"""
Passwords, by argon2id with its authors' parameters.

Promises: a few are worked on at once, because each takes 64 MiB; a check against no hash takes as
long as one against a hash, so that the time does not tell whether a person exists.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Final

from physicsrunner.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST: Final = 10  # characters
LONGEST: Final = 1024
_AT_ONCE: Final = 2


class Passwords:
    """Hashes passwords and checks them. Thread-safe; loads its library at the first password."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._given = hasher
        self._turn = threading.BoundedSemaphore(_AT_ONCE)
        self._of_nobody: str | None = None

    def hashed(self, password: str) -> str:
        """Return what is kept of *password*; raise `InvalidRequest` where it is no good one."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise InvalidRequest(f"a password has {SHORTEST} to {LONGEST} characters")
        with self._turn:
            return self._hasher().hash(password)

    def fits(self, kept: str | None, password: str) -> bool:
        """Say whether *password* is the one of which *kept* is kept."""
        from argon2.exceptions import InvalidHashError, VerificationError

        if len(password) > LONGEST:
            return False
        with self._turn:
            hasher = self._hasher()
            if kept is None and self._of_nobody is None:
                self._of_nobody = hasher.hash(secrets.token_hex(16))
            try:
                return hasher.verify(kept or self._of_nobody or "", password) and kept is not None
            except (VerificationError, InvalidHashError):
                return False

    def _hasher(self) -> PasswordHasher:
        if self._given is None:
            try:
                from argon2 import PasswordHasher
            except ImportError:
                raise MissingExtra("pip install 'physicsrunner[server]'") from None
            self._given = PasswordHasher()
        return self._given
