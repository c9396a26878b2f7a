"""
The server's certificate: read once, checked before anything listens.

Promises: a file that is missing, cannot be read, is no PEM, does not fit the other or has a
password is a `ConfigError` that names the file and what is expected; nobody is asked for a
password on a terminal. A key that others can read, and a certificate that has run out, are said.
TLS 1.2 is the oldest that is spoken.
"""

from __future__ import annotations

import ipaddress
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from physicsrunner.errors import ConfigError


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, known to fit."""

    cert: Path
    key: Path
    names: tuple[str, ...]  #: the hosts that it stands for, addresses among them
    self_signed: bool
    expires: float  #: POSIX seconds
    warnings: tuple[str, ...] = ()

    def host_for(self, host: str) -> str:
        """Return the name under which a server that listens at *host* should be called."""
        if host in self.names:
            return host
        plain = [name for name in self.names if not name.startswith("*")]
        return plain[0] if plain else host


def load(cert: Path | None, key: Path | None, *, now: float) -> Certificate | None:
    """
    Read and check the two files; None if there are none.

    Raises
    ------
    ConfigError
        Naming the file, and what is wrong with it.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, missing = ("tls_cert", "tls_key") if key is None else ("tls_key", "tls_cert")
        raise ConfigError(f"{given} is set and {missing} is not; TLS needs both")
    leaf = _leaf(cert)
    _check_key(key)
    _check_pair(cert, key)
    warnings = []
    if key.stat().st_mode & stat.S_IRWXO:
        warnings.append(f"{key} is a private key and everybody can read it: chmod 600 {key}")
    expires = leaf.not_valid_after_utc.timestamp()
    if expires <= now:
        warnings.append(f"the certificate {cert} has run out: {leaf.not_valid_after_utc:%Y-%m-%d}")
    return Certificate(
        cert, key, _names(leaf), leaf.issuer == leaf.subject, expires, tuple(warnings)
    )


def context_of(certificate: Certificate) -> ssl.SSLContext:
    """Return what a socket of the server needs to speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate.cert, certificate.key, password=_no_password)
    return context


def _leaf(path: Path) -> x509.Certificate:
    data = _read(path, "certificate")
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise ConfigError(
            f"{path} holds no certificate; expected PEM: -----BEGIN CERTIFICATE-----"
        ) from None


def _check_key(path: Path) -> None:
    data = _read(path, "key")
    if b"PRIVATE KEY-----" not in data:
        raise ConfigError(f"{path} holds no private key; expected PEM: -----BEGIN PRIVATE KEY-----")
    if b"ENCRYPTED" in data:
        raise ConfigError(
            f"the key {path} has a password; expected one without: openssl pkey -in KEY -out PLAIN"
        )


def _check_pair(cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        told = (error.reason or str(error)).lower().replace("_", " ")
        raise ConfigError(f"{cert} and {key} do not fit together: {told}") from None


def _no_password() -> str:
    return ""  # or OpenSSL would ask at the terminal


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the {what} {path} cannot be read: {error.strerror}") from None


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(one.value) for one in common)
    addresses = found.get_values_for_type(x509.IPAddress)
    return (
        *found.get_values_for_type(x509.DNSName),
        *(str(one) for one in addresses if not isinstance(one, _NETWORKS)),
    )


_NETWORKS = (ipaddress.IPv4Network, ipaddress.IPv6Network)
