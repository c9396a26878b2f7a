"""Attempts on a real server, for tests and benchmarks of the sync that need no main.py."""

from __future__ import annotations

import uuid
import zipfile
from dataclasses import dataclass

from physicsrunner.client.native import NativeUplink
from tests.support.processes import ServerProcess


@dataclass(frozen=True)
class Claimed:
    """A run on the server whose attempt 1 is ours."""

    run: str
    token: str


def claim(server: ServerProcess) -> Claimed:
    """Make a run whose attempt 1 is leased to the caller."""
    uplink = NativeUplink(server.url, server.token)
    try:
        bundle = server.data / "made.zip"
        if not bundle.exists():
            with zipfile.ZipFile(bundle, "w") as archive:
                archive.writestr("main.py", "print('hello')\n")
        model = uplink.upload_bundle(bundle, "made")
        run = str(uuid.uuid4())
        grant = uplink.claim(
            {
                "id": run,
                "model_id": model["id"],
                "model_version": model["version"],
                "name": "made",
                "parameters": {"inputs": {}},
                "claim": {"agent": "tests"},
            }
        )
        return Claimed(run, grant.token)
    finally:
        uplink.close()
