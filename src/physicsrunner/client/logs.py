"""
Logs of a run, read piece by piece or followed.

Promises: the pieces of a log follow each other without gap or overlap, whatever happens to the
line. Offsets count bytes; what is not UTF-8 is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from physicsrunner.client.client import LOOK_S, ended
from physicsrunner.errors import ServerUnavailable
from physicsrunner.wire import rest

if TYPE_CHECKING:
    from physicsrunner.client.client import Client

_SILENT_S: Final = 300.0  # a program may be silent for long; a line that died must be noticed
_PIECE: Final = 64 * 1024


@dataclass(frozen=True)
class LogPiece:
    """Some text of a log and where it stood."""

    path: str
    offset: int  #: of the first byte
    data: bytes

    @property
    def end(self) -> int:
        """The offset behind the piece: where to go on."""
        return self.offset + len(self.data)

    @property
    def text(self) -> str:
        """The piece as text; what is not UTF-8 is shown as U+FFFD."""
        return self.data.decode(errors="replace")


def read(client: Client, run: str, path: str, offset: int) -> Iterator[LogPiece]:
    """Iterate over what there is of a log, from byte *offset* on."""
    url = f"{rest.simulation(run)}/logs"
    while True:
        params = {"path": path, "offset": offset}
        response = client.answered(lambda: client.http.request("GET", url, params=params))  # noqa: B023
        if not response.content:
            return
        piece = LogPiece(path, offset, response.content)
        offset = piece.end
        yield piece
        if offset >= int(response.headers.get("X-Size", offset)):
            return


def follow(client: Client, run: str, path: str, offset: int) -> Iterator[LogPiece]:
    """Iterate over a log until the run has ended."""
    url = f"{rest.simulation(run)}/logs"
    failing_since: float | None = None
    while True:
        params = {"path": path, "offset": offset, "follow": "true"}
        try:
            with client.http.request(
                "GET", url, params=params, stream=True, read_s=_SILENT_S
            ) as response:
                for data in client.http.pieces(response, _PIECE):
                    failing_since = None
                    yield LogPiece(path, offset, data)
                    offset += len(data)
            if ended(client.get(run)):
                return
        except ServerUnavailable as error:
            if "timed out" not in str(error):
                failing_since = failing_since or client.now()
                if client.now() - failing_since > client.patience_s:
                    raise
        client.sleep(LOOK_S)
