"""A store of each kind, and the check that every store a test opened is sound at its end."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from physicsrunner.errors import ServerUnavailable, StorageFull
from physicsrunner.store.base import Store
from physicsrunner.store.memory import MemoryStore
from physicsrunner.store.sql import SqlStore
from tests.support.invariants import check_store
from tests.support.postgres import PostgresServer


@pytest.fixture(autouse=True)
def every_store_is_sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check each store just before it is closed; what nobody closed, after the test."""
    strict = not request.node.path.name.startswith("test_store")
    wrong: list[str] = []
    open_ones: list[Any] = []
    patches = pytest.MonkeyPatch()  # our own: a test may undo what it patched itself

    def check(store: Any) -> None:
        # A test may have broken its database on purpose.
        with contextlib.suppress(ServerUnavailable, StorageFull):
            try:
                check_store(store, strict=strict)
            except AssertionError as error:
                wrong.append(str(error))

    for kind in (SqlStore, MemoryStore):

        def opened(self: Any, *args: Any, _init: Any = kind.__init__, **kwargs: Any) -> None:
            _init(self, *args, **kwargs)
            open_ones.append(self)

        def closed(self: Any, _close: Any = kind.close) -> None:
            if self in open_ones:
                open_ones.remove(self)
                check(self)
            _close(self)

        patches.setattr(kind, "__init__", opened)
        patches.setattr(kind, "close", closed)
    yield
    for left in open_ones.copy():  # a test that played a kill left them open
        left.close()
    patches.undo()
    assert not wrong, "\n".join(wrong)


STORES = ("memory", "sqlite", "postgresql")


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Give a function that opens an empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore
    elif request.param == "sqlite":
        yield lambda: SqlStore(f"sqlite:///{tmp_path / uuid.uuid4().hex}.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        yield lambda: SqlStore(server.fresh())
        server.drop()


@pytest.fixture
def store(opener: Callable[[], Store]) -> Iterator[Store]:
    opened = opener()
    yield opened
    opened.close()
