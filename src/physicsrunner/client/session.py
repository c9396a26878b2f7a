"""
A `requests` session that lets the kernel send files, for what is more than plain HTTP.

Promises: a `FileSlice` of a body is read while it is sent: by the kernel over plain HTTP, in large
pieces through TLS. Closing closes every connection. Loaded only when it is needed.
"""

from __future__ import annotations

from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from physicsrunner.client.body import FileSlice
from physicsrunner.client.trust import ca_bundle

_CONNECTIONS: Final = 8


class _Connection(urllib3.connection.HTTPConnection):
    """A plain connection that lets the kernel send files."""

    def send(self, data: Any) -> None:
        if isinstance(data, FileSlice):
            data.send_to(self.sock)
        else:
            super().send(data)


class _TlsConnection(urllib3.connection.HTTPSConnection):
    """Through TLS the bytes have to pass our hands."""

    def send(self, data: Any) -> None:
        if isinstance(data, FileSlice):
            for piece in data.pieces():
                super().send(piece)
        else:
            super().send(data)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager

    def close(self) -> None:
        # urllib3 leaves it to the garbage collector, and whoever keeps an error keeps its pool.
        for key in list(self.poolmanager.pools.keys()):
            pool = self.poolmanager.pools.get(key)
            if pool is not None:
                pool.close()
        super().close()


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Session(requests.Session):
    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            return super().request(*args, **kwargs)
        except urllib3.exceptions.HTTPError as error:  # a few that requests lets through
            raise requests.ConnectionError(error) from error


def new_session() -> requests.Session:
    """Return a session that retries nothing."""
    session = _Session()
    # Or a ~/.netrc would put its password in the place of our token.
    session.auth = _as_it_is
    # requests knows two of the variables; a user who set the third means the same.
    session.verify = ca_bundle() or True
    adapter = _Adapter(pool_connections=4, pool_maxsize=_CONNECTIONS, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
