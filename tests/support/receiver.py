"""
A receiver of webhooks as a process of its own: checks signatures, keeps what it took, can be told
to refuse, to hang, or to be away.

``python -m tests.support.receiver PORT FILE SECRET MODES``: each request is a line of JSON in FILE;
the file MODES holds how to answer: a status, ``hang``, or ``refuse N`` (the first N tries of each
event get 500).
"""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from physicsrunner.errors import NotAuthenticated
from physicsrunner.events import verify_webhook

HANG_S = 60.0


def main(port: int, file: Path, secret: Path, mode: Path) -> None:
    """Serve until killed."""
    tries: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            number = self.headers["X-PhysicsRunner-Delivery"]
            with lock:
                tries[number] += 1
                status = _status(mode.read_text().split(), tries[number])
                good = _is_good(secret.read_text().strip(), self.headers, body)
                line = {
                    "good": good,
                    "status": status,
                    "try": tries[number],
                    "delivery": number,
                    "webhook": self.headers["X-PhysicsRunner-Webhook"],
                    "event": json.loads(body),
                }
                with file.open("a") as out:
                    out.write(json.dumps(line) + "\n")
            if status == 0:
                threading.Event().wait(HANG_S)
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    sys.stdout.write(f"listening on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


def _status(words: list[str], tried: int) -> int:
    if words[0] == "hang":
        return 0
    if words[0] == "refuse":
        return 500 if tried <= int(words[1]) else 204
    return int(words[0])


def _is_good(secret: str, headers: Any, body: bytes) -> bool:
    try:
        verify_webhook(secret, dict(headers), body, now=time.time())
    except NotAuthenticated:
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
