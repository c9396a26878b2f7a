"""
A design service as a process of its own, which tests kill, start again, and tell how to answer.

``python -m tests.support.design_service PORT FOLDER``: ``GET /designs/ID`` answers the file
``ID.json`` of FOLDER; the file ``mode`` there holds how: ``ok``, a status (``503``, ``429 7``: with
Retry-After), ``first N STATUS`` (the first N requests only), ``hang``, ``drip``, ``cut``,
``redirect URL``, ``text WORDS``, ``huge BYTES``. What was asked for is in the file ``asked``.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

HANG_S = 60.0


def designs_server(port: int, folder: Path) -> http.server.ThreadingHTTPServer:
    """Return a design service on *port* (0: any free one), which is not serving yet."""
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                with (folder / "asked").open("a") as out:
                    out.write(self.path + "\n")
                count = len((folder / "asked").read_text().splitlines())
                words = _words(folder)
            if words[0] == "first":
                words = [words[2]] if count <= int(words[1]) else ["ok"]
            _answer(self, words, folder)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


def _words(folder: Path) -> list[str]:
    mode = folder / "mode"
    return mode.read_text().split() if mode.exists() else ["ok"]


def _answer(handler: http.server.BaseHTTPRequestHandler, words: list[str], folder: Path) -> None:
    kind, rest = words[0], words[1:]
    if kind == "hang":
        handler.connection.settimeout(HANG_S)
        with contextlib.suppress(OSError):
            handler.rfile.read(1)  # until the other side hangs up
    elif kind in ("drip", "cut"):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1 if kind == "cut" else 1000):
                handler.wfile.write(b"{")
                threading.Event().wait(0.02)
    elif kind == "redirect":
        _send(handler, 302, b"", Location=rest[0])
    elif kind == "text":
        _send(handler, 200, " ".join(rest).encode())
    elif kind == "huge":
        _send(handler, 200, b'{"a": "' + b"x" * int(rest[0]) + b'"}')
    elif kind != "ok":
        _send(handler, int(kind), b"{}", **({"Retry-After": rest[0]} if rest else {}))
    else:
        file = folder / f"{unquote(handler.path.rpartition('/')[2]).replace('/', '_')}.json"
        found = file.exists()
        _send(handler, 200 if found else 404, file.read_bytes() if found else b"{}")


def _send(
    handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def keep_design(folder: Path, design_id: str, design: Any) -> None:
    """Have the service know a design."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{design_id.replace('/', '_')}.json").write_text(json.dumps(design))


if __name__ == "__main__":
    serving = designs_server(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"listening on http://127.0.0.1:{serving.server_address[1]}\n")
    sys.stdout.flush()
    serving.serve_forever()
