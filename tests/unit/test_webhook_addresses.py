"""Where a webhook may lead: nowhere that only the server can reach."""

from __future__ import annotations

import ipaddress

import pytest

from physicsrunner.errors import InvalidRequest
from physicsrunner.service.outbox import check_address, check_url

INSIDE = (
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "fd00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    """Also where IPv6 carries an address of IPv4: translated, mapped, or by 6to4."""
    with pytest.raises(InvalidRequest, match="not a public address"):
        check_address(ipaddress.ip_address(address), private=False)
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest, match="not a public address"):
        check_url(f"http://{host}:8080/x", private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_not(address: str) -> None:
    """Also through the translation of a network that has IPv6 alone."""
    check_address(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize("address", ["10.1.2.3", "::1", "fd00::1"])
def test_an_operator_may_allow_others(address: str) -> None:
    """By the setting `webhook_private`."""
    check_address(ipaddress.ip_address(address), private=True)
