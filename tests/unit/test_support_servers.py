"""The tests' own PostgreSQL and NATS servers, and the ports on which such servers listen."""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.nats import NatsServer
from tests.support.ports import Port
from tests.support.postgres import PostgresServer


def test_a_killed_postgresql_comes_back_with_what_was_committed(
    postgres_server: PostgresServer, postgres: str
) -> None:
    """After kill -9 the server comes back on its port and nothing committed is gone."""
    name = urlsplit(postgres).path[1:]
    postgres_server.execute("CREATE TABLE kept (n integer)", name)
    postgres_server.execute("INSERT INTO kept VALUES (7)", name)
    port = postgres_server.port
    postgres_server.kill()
    with pytest.raises(psycopg.OperationalError):
        postgres_server.execute("SELECT n FROM kept", name)
    postgres_server.start()
    assert postgres_server.port == port
    assert postgres_server.execute("SELECT n FROM kept", name) == [(7,)]


def test_every_test_has_an_empty_database(postgres_server: PostgresServer, postgres: str) -> None:
    """The database of a test has no table."""
    name = urlsplit(postgres).path[1:]
    found = postgres_server.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'", name
    )
    assert found == [(0,)]


def test_a_killed_nats_server_comes_back_on_its_port(nats_server: NatsServer) -> None:
    """After kill -9 nobody listens; after the restart the same address answers."""
    port = nats_server.port
    nats_server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    nats_server.start()
    assert nats_server.port == port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        assert sock.recv(4) == b"INFO"


def test_a_port_is_kept_for_a_server_that_is_away() -> None:
    """Server after server listens on it; between them nobody is there, and nobody is given it."""
    with closing(Port()) as port:
        place = ("127.0.0.1", port.number)
        for _ in range(2):
            with socket.create_server(place), socket.create_connection(place, timeout=5):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(place, timeout=5)
            with socket.socket() as other, pytest.raises(OSError, match="in use") as taken:
                other.bind(place)  # as a port that the kernel chooses is looked for
            assert taken.value.errno == errno.EADDRINUSE
