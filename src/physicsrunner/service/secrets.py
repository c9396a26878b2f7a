"""
What must not be read by others: the server's keys, and the secrets of runs and webhooks.

Promises: a key is made at the first start, readable by its owner alone, and never logged; what is
sealed is encrypted and signed (Fernet), so that the database and its backups say nothing of it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from physicsrunner.errors import InvalidRequest, MissingExtra

KEY_FILE: Final = "secret.key"
ENCRYPTION_FILE: Final = "encryption.key"


class Safe:
    """Encrypts texts with the key of a data folder. Thread-safe."""

    def __init__(self, data: Path) -> None:
        try:
            from cryptography.fernet import Fernet
        except ImportError:
            raise MissingExtra("pip install 'physicsrunner[server]'") from None
        path = data / ENCRYPTION_FILE
        write_private(path, Fernet.generate_key().decode(), replace=False)
        try:
            self._fernet = Fernet(path.read_text().strip())
        except ValueError:
            raise InvalidRequest(
                f"{path} holds no key: restore it from a backup; without it no stored secret "
                "can be read"
            ) from None

    def seal(self, text: str) -> str:
        """Return *text* encrypted."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the text that was sealed; raise `InvalidRequest` if the key is another one."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise InvalidRequest(
                f"a stored secret cannot be read with this {ENCRYPTION_FILE}: restore the key that "
                "belongs to the database"
            ) from None


def load_secret(data: Path) -> str:
    """Return the server's signing key; make it at the first start, mode 0600."""
    path = data / KEY_FILE
    write_private(path, secrets.token_hex(32), replace=False)
    key = path.read_text().strip()
    if len(key) < 32:
        raise InvalidRequest(f"{path} holds no key; restore it, or remove it to make a new one")
    return key


def write_private(path: Path, text: str, *, replace: bool) -> bool:
    """
    Write a file that only its owner can read; say whether it was written.

    It appears whole or not at all, also when two processes start at once; without *replace* a file
    that is there stays.
    """
    if path.exists() and not replace:
        return False
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            part.replace(path)
            return True
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        return True
    finally:
        part.unlink(missing_ok=True)
