"""Certificates of the tests' own: an authority, and servers that it has signed."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files; *ca* is whom to trust."""

    cert: Path
    key: Path
    ca: Path


def self_signed(folder: Path, *names: str, days: int = 1, stem: str = "server") -> Pair:
    """Make a certificate for *names* that signs itself; it runs out in *days*."""
    key = ec.generate_private_key(ec.SECP256R1())
    cert = _certificate(names, key, _name(names[0]), key, days=days, authority=True)
    pair = Pair(folder / f"{stem}.pem", folder / f"{stem}.key", folder / f"{stem}.pem")
    _write(pair.cert, cert)
    _write_key(pair.key, key)
    return pair


def signed(folder: Path, *names: str) -> Pair:
    """Make an authority, and a certificate for *names* that it has signed."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate(("tests",), authority, _name("tests"), authority, authority=True)
    cert = _certificate(names, key, _name("tests"), authority)
    pair = Pair(folder / "signed.pem", folder / "signed.key", folder / "ca.pem")
    _write(pair.ca, root)
    _write(pair.cert, cert)
    _write_key(pair.key, key)
    return pair


def _certificate(
    names: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    days: int = 1,
    authority: bool = False,
) -> x509.Certificate:
    end = dt.datetime.now(dt.timezone.utc) + days * _DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 30 * _DAY)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), True)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path: Path, cert: x509.Certificate) -> None:
    path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> None:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        lock = serialization.BestAvailableEncryption(password)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    )
    path.chmod(0o600)


def locked_key(path: Path) -> Path:
    """Write a private key that has a password; return *path*."""
    _write_key(path, ec.generate_private_key(ec.SECP256R1()), b"secret")
    return path
