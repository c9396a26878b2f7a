"""Who is taken for somebody at a door without a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import HTTPConnection, Request

from physicsrunner.errors import NotAllowed, NotAuthenticated
from physicsrunner.server.app import create_app
from physicsrunner.server.doors.local import DoorAccess, is_loopback
from physicsrunner.server.doors.physicsworks.callers import identify
from physicsrunner.service.access import Identity
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.services import Services, build

PAGE = "https://page.example.org"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Give a server whose doors act as its admin."""
    options = ServerOptions(door_user="admin", cors_origins=(PAGE,))
    services = build(tmp_path, url="memory:", now=lambda: 1000.0, options=options)
    yield services
    services.close()


def asked(
    services: Services, client: str = "127.0.0.1", server: str = "127.0.0.1", **headers: str
) -> Identity:
    headers = {"host": "127.0.0.1:3011", **headers}
    return anyio.run(DoorAccess(services).of_request, _request(headers, client, server))


def _request(
    headers: dict[str, str], client: str = "127.0.0.1", server: str = "127.0.0.1"
) -> HTTPConnection:
    scope: dict[str, Any] = {
        "type": "http",
        "client": (client, 5000),
        "server": (server, 3011),
        "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()],
    }
    return Request(scope)


def on_line(services: Services, token: str | None, peer: str, local: str) -> Identity:
    return anyio.run(DoorAccess(services).of_line, token, peer, local)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:3011"},
        {"host": "[::1]:3011"},
        {"origin": "http://localhost:5173"},
        {"origin": PAGE},
        {"origin": PAGE, "sec_fetch_site": "cross-site"},
        {"origin": "http://localhost:5173", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
    ids=str,
)
def test_a_program_or_page_of_this_machine_is_the_named_person(
    services: Services, headers: dict[str, str]
) -> None:
    """No token is needed; the audit still knows the address."""
    found = asked(services, **headers)
    assert (found.kind, found.subject, found.role) == ("user", "admin", "admin")
    assert found.origin == "127.0.0.1"


@pytest.mark.parametrize(
    ("ends", "headers"),
    [
        ({"client": "10.0.0.7"}, {}),
        ({"server": "10.0.0.1"}, {}),
        ({"client": ""}, {}),
        ({}, {"host": "rebound.example.org"}),
        ({}, {"host": ""}),
        ({}, {"host": "127.0.0.1.example.org"}),
        ({}, {"host": "127.0.0.1:port"}),
        ({}, {"origin": "https://evil.example.org"}),
        ({}, {"origin": "null"}),
        ({}, {"origin": "file://localhost"}),
        ({}, {"x_forwarded_for": "10.0.0.7"}),
        ({}, {"forwarded": "for=10.0.0.7"}),
        ({}, {"via": "1.1 proxy"}),
        ({}, {"x_forwarded_proto": "https"}),
        ({}, {"x_forwarded_anything": "1"}),
        ({}, {"x_real_ip": "10.0.0.7"}),
        ({}, {"x_client_ip": "10.0.0.7"}),
        ({}, {"cf_connecting_ip": "10.0.0.7"}),
        ({}, {"true_client_ip": "10.0.0.7"}),
        ({}, {"sec_fetch_site": "cross-site"}),
        ({}, {"sec_fetch_site": "cross-site", "origin": "https://evil.example.org"}),
        ({}, {"sec_fetch_site": "same-origin", "origin": "https://evil.example.org"}),
    ],
    ids=str,
)
def test_whatever_may_come_from_elsewhere_needs_a_token(
    services: Services, ends: dict[str, str], headers: dict[str, str]
) -> None:
    """Another machine, a name that was led here, a foreign page, a proxy."""
    with pytest.raises(NotAuthenticated):
        asked(services, **ends, **headers)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"host": "rebound.example.org"}, "Host"),
        ({"origin": "https://evil.example.org"}, "Origin .* cors_origins"),
        ({"sec_fetch_site": "cross-site"}, "Sec-Fetch-Site"),
        ({"x_forwarded_proto": "https"}, "proxy .* x-forwarded-proto"),
    ],
)
def test_a_caller_of_this_machine_is_told_why_it_does_not_count(
    services: Services, headers: dict[str, str], why: str
) -> None:
    """Without that nobody would find out; who is elsewhere hears nothing of it."""
    with pytest.raises(NotAuthenticated, match=f"Bearer <token> .door_user .*: .*{why}"):
        asked(services, **headers)
    with pytest.raises(NotAuthenticated, match=r"Bearer <token>$"):
        asked(services, client="10.0.0.7", **headers)


def test_behind_a_proxy_everybody_needs_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes through a proxy of this machine may look local: the server says so."""
    options = ServerOptions(door_user="admin", trusted_proxies=("10.0.0.0/8",))
    services = build(tmp_path, url="memory:", now=lambda: 1000.0, options=options)
    try:
        create_app(services)
        assert "door_user does not count: trusted_proxies" in caplog.text
        with pytest.raises(NotAuthenticated, match="trusted_proxies"):
            asked(services)
        with pytest.raises(NotAuthenticated, match="no token"):
            on_line(services, None, "127.0.0.1", "127.0.0.1")
        token = services.access.user_token("ada", "viewer")
        assert asked(services, authorization=f"Bearer {token}").subject == "ada"
    finally:
        services.close()


def test_at_the_physicsworks_door_both_headers_bring_a_token(services: Services) -> None:
    """A token that is given is judged and never passed over; an empty header is none."""
    token = services.access.user_token("ada", "viewer")

    def who(**headers: str) -> str:
        headers = {"host": "127.0.0.1:3011", **headers}
        return anyio.run(identify(services), _request(headers)).subject

    assert who() == "admin"
    assert who(auth_token="") == "admin"
    for bearing in (token, f" {token} "):
        assert who(authorization=f"Bearer {bearing}") == "ada"
        assert who(auth_token=bearing) == "ada"
        assert who(auth_token=bearing, authorization="Bearer wrong") == "ada"
    with pytest.raises(NotAuthenticated):
        who(authorization="Bearer wrong")
    with pytest.raises(NotAuthenticated, match=r"the header auth-token: <token> .*Host"):
        who(host="rebound.example.org")


def test_a_token_that_is_given_counts(services: Services) -> None:
    """Who says who they are is nobody else, and a wrong token is not forgiven."""
    token = services.access.user_token("ada", "viewer")
    assert asked(services, authorization=f"Bearer {token}").subject == "ada"
    assert asked(services, client="10.0.0.7", authorization=f"bearer {token}").subject == "ada"
    assert on_line(services, token, "10.0.0.7", "10.0.0.1").subject == "ada"
    with pytest.raises(NotAuthenticated):
        asked(services, authorization="Bearer wrong")
    with pytest.raises(NotAuthenticated):
        on_line(services, "wrong", "127.0.0.1", "127.0.0.1")
    with pytest.raises(NotAuthenticated):
        on_line(services, "", "127.0.0.1", "127.0.0.1")


def test_a_line_of_this_machine_is_the_named_person(services: Services) -> None:
    """A bare line has no headers: both ends decide."""
    assert on_line(services, None, "::1", "::1").subject == "admin"
    for peer, local in (("10.0.0.7", "127.0.0.1"), ("127.0.0.1", "10.0.0.1")):
        with pytest.raises(NotAuthenticated):
            on_line(services, None, peer, local)


def test_without_a_named_person_everybody_needs_a_token(tmp_path: Path) -> None:
    """That is how a server starts that was told nothing."""
    services = build(tmp_path, url="memory:", now=lambda: 0.0)
    try:
        with pytest.raises(NotAuthenticated, match="no token"):
            asked(services)
        with pytest.raises(NotAuthenticated, match="no token"):
            on_line(services, None, "127.0.0.1", "127.0.0.1")
    finally:
        services.close()


def test_the_named_person_must_be_one_of_ours(tmp_path: Path, services: Services) -> None:
    """Unknown or disabled, they may do nothing, from the next request on."""
    options = ServerOptions(door_user="nemo")
    other = build(tmp_path / "other", url="memory:", now=lambda: 0.0, options=options)
    try:
        with pytest.raises(NotAuthenticated, match="no user nemo"):
            asked(other)
        other.access.user_token("nemo", "user")
        assert asked(other).role == "user"
        admin = Identity("user", "admin", "admin")
        other.accounts.change_user(admin, "nemo", disabled=True)
        with pytest.raises(NotAllowed, match="disabled"):
            asked(other)
        assert not other.access.still_good(Identity("user", "nemo", "user"))
    finally:
        other.close()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::ffff:10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, here: bool) -> None:
    """Addresses that no other machine reaches."""
    assert is_loopback(host) is here
