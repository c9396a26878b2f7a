"""
Whom clients believe over https: the machine's authorities, or those of one file.

Promises: a server is always verified. One file is in force for requests and for live connections
alike, whichever of the usual variables names it; `use` sets them for this process and for all that
it starts, so that a main.py that speaks to the server itself trusts the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from physicsrunner.errors import ConfigError

#: As `requests`, curl and OpenSSL call it, in the order in which they are asked.
VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_SET: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def use(ca: Path | None, environment: MutableMapping[str, str] | None = None) -> None:
    """Trust the authorities in *ca* in place of the machine's; None changes nothing."""
    if ca is None:
        return
    environment = os.environ if environment is None else environment
    try:
        text = ca.read_bytes()
    except OSError as error:
        raise ConfigError(f"the setting 'ca': {ca} cannot be read: {error.strerror}") from None
    if b"-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError(f"the setting 'ca': {ca} holds no certificate; expected PEM")
    for name in _SET:
        environment[name] = str(ca.absolute())


def add(cert: Path, bundle: Path) -> None:
    """Trust *cert* beside all that is trusted already; both are kept together in *bundle*."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    known = Path(ca_bundle() or DEFAULT_CA_BUNDLE_PATH)
    text = b"" if known.is_dir() else known.read_bytes()
    bundle.write_bytes(text.rstrip() + b"\n" + cert.read_bytes())
    use(bundle)


def ca_bundle(environment: Mapping[str, str] | None = None) -> str | None:
    """Return the file or folder of authorities that is set; None: the machine's."""
    environment = os.environ if environment is None else environment
    for name in VARIABLES:
        if environment.get(name):
            return environment[name]
    return None


def websocket_options() -> dict[str, Any]:
    """Return what a socket.io client needs to trust the same (``websocket_extra_options``)."""
    bundle = ca_bundle()
    if bundle is None:
        return {}
    kind = "ca_cert_path" if Path(bundle).is_dir() else "ca_certs"
    return {"sslopt": {kind: bundle}}
