"""The files of a run: list, fetch one (with ranges), fetch all as a zip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import StreamingResponse

from physicsrunner.errors import NotFound
from physicsrunner.server.auth import Allowed
from physicsrunner.server.bodies import answer
from physicsrunner.server.downloads import archive, file_response
from physicsrunner.server.openapi import gives, gives_bytes
from physicsrunner.server.parts import Shared
from physicsrunner.service.access import Identity
from physicsrunner.wire import rest
from physicsrunner.wire.messages import StoredFile


class _FileName(Convertor[str]):
    """A path with any character in it: the framework's own stops at a newline."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("artifact", _FileName())

router = APIRouter(tags=["files"])

Reader = Annotated[Identity, Allowed("files:read")]

_RUN: Final = f"{rest.SIMULATIONS}/{{run}}"
_FILE: Final = f"{_RUN}/artifacts/{{path:artifact}}"
_EXAMPLE: Final = {
    "path": "outputs/data_files/u.vtu",
    "size": 123456,
    "sealed": True,
    "sha256": "ab12" + "0" * 60,
}
Attempt = Annotated[int | None, Query(ge=1, description="Without it: the published one")]


@router.get(
    f"{_RUN}/artifacts",
    summary="List a run's files",
    responses=gives({"data": list[StoredFile]}, {"data": [_EXAMPLE]}),
)
async def list_files(run: str, who: Reader, parts: Shared, attempt: Attempt = None) -> Response:
    """List the files with size and SHA-256; a file that is not sealed is still on its way."""
    found = await to_thread.run_sync(parts.services.files.list, who, run, attempt)
    return answer({"data": found})


async def fetch(
    request: Request, run: str, path: str, who: Reader, parts: Shared, attempt: Attempt = None
) -> Response:
    """
    Fetch one file. Range, If-Range and If-None-Match work.

    The ETag of a sealed file is its SHA-256.
    """

    def find() -> Response:
        files = parts.services.files
        where = files.path(who, run, path, attempt)
        sha256 = files.stat(who, run, path, attempt).sha256
        return file_response(request, where, name=path, sha256=sha256)

    return await to_thread.run_sync(find)


router.get(_FILE, summary="Fetch a file", response_class=Response, responses=gives_bytes())(fetch)
router.head(
    _FILE,
    summary="Ask for a file",
    name="head_file",
    response_class=Response,
    responses=gives_bytes(text="The headers alone"),
)(fetch)


@router.get(
    f"{_RUN}/archive",
    summary="Fetch all files as a zip",
    response_class=Response,
    responses=gives_bytes("application/zip"),
)
async def all_files(run: str, who: Reader, parts: Shared, attempt: Attempt = None) -> Response:
    """Fetch a zip (ZIP64) that is written while it is read."""

    def find() -> Response:
        found = parts.services.runs.get(who, run)
        files = parts.services.files
        names = [item.path for item in files.list(who, found.id, attempt)]

        def paths() -> Iterator[tuple[str, Path]]:
            for name in names:
                try:
                    yield name, files.path(who, found.id, name, attempt)
                except NotFound:
                    continue  # removed since it was listed

        headers = {"Content-Disposition": f'attachment; filename="run-{found.number}.zip"'}
        return StreamingResponse(archive(paths()), media_type="application/zip", headers=headers)

    return await to_thread.run_sync(find)
