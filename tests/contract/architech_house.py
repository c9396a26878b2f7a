"""A server with the architech door, a design service beside it, and clients of its WebSocket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from physicsrunner.service.options import ServerOptions
from tests.contract.rest_server import ADMIN, RestServer, rest_server
from tests.support.design_service import designs_server, keep_design
from tests.support.websockets import JsonSocket

API = "/architech/api/v1"
SIMULATIONS = f"{API}/simulations"
BRIDGE = {"title": "Long bridge", "geometry": {"span": 42.5}, "loads": [{"value": 3}, {"value": 5}]}
MAPPING = """\
model: demo
name: "{title} ({design_id})"
parameters:
  span_m: geometry.span
  load_n: {path: loads.0.value, scale: 1000}
  material: {path: material, values: {steel: 1, wood: 2}, default: 1}
"""


@contextmanager
def designs(folder: Path) -> Iterator[str]:
    """Give the address of a design service that knows the design ``bridge-7``."""
    keep_design(folder, "bridge-7", BRIDGE)
    server = designs_server(0, folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def options(tmp_path: Path, url: str | None, **more: Any) -> ServerOptions:
    """Return the decisions of an operator who has opened the door, with the mapping above."""
    file = tmp_path / "mapping.yaml"
    file.write_text(more.pop("mapping", MAPPING))
    return ServerOptions(
        doors=("architech",), architech_design_url=url, architech_mapping=file, **more
    )


@contextmanager
def house(
    tmp_path: Path, *, now: Callable[[], float] = time.time, **more: Any
) -> Iterator[RestServer]:
    """Serve the door, a design service and a model ``demo``."""
    with (
        designs(tmp_path / "designs") as url,
        rest_server(tmp_path / "data", options=options(tmp_path, url, **more), now=now) as server,
    ):
        server.model()
        yield server


def start(server: RestServer, design: str = "bridge-7", user: str = "ada", **more: Any) -> Any:
    """Start a simulation; return the answer's JSON."""
    return server.value(
        "POST", f"{SIMULATIONS}/start", json={"design_id": design, "user_id": user, **more}
    )


class Line(JsonSocket):
    """One WebSocket of the door."""

    def __init__(self, url: str, client: str, query: str = "", **more: Any) -> None:
        super().__init__(f"{url}/architech/ws/{quote(client, safe='')}{query}", **more)

    def subscribe(self, run: Any, **more: Any) -> dict[str, Any]:
        """Subscribe, and return the answer."""
        before = len(self.of("subscribed"))
        self.send(subscribe=run, **more)
        return self.wait("subscribed", before + 1)[-1]


@contextmanager
def line(
    server: RestServer, client: str = "tab-1", token: str | None = ADMIN, **more: Any
) -> Iterator[Line]:
    """Connect while the block lasts; with a token in the header, and let in."""
    known = server.admin if token == ADMIN else token
    header = [] if known is None else [f"Authorization: Bearer {known}"]
    opened = Line(server.url, client, header=header, **more)
    try:
        if token == ADMIN:
            opened.wait("connected")
        yield opened
    finally:
        opened.close()
