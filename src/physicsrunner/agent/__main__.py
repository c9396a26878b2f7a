"""
The agent as a process of its own: ``python -m physicsrunner.agent``, started by `up`.

Promises: its first line of standard input is its settings in JSON (a token would be seen by
everybody in its arguments); the end of standard input means that its parent has gone, and it ends
too. Ending kills no program: an attempt under way goes on by itself, and the next agent on this
work folder takes it up again.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from physicsrunner.agent.start import Process, Settings
from physicsrunner.errors import PhysicsRunnerError


def main() -> int:
    """Run until standard input ends."""
    settings = _settings(json.loads(sys.stdin.readline()))
    log = speaking()
    threading.Thread(target=_until_alone, name="parent", daemon=True).start()
    try:
        Process(settings, log=log).run()
    except PhysicsRunnerError as error:
        sys.stderr.write(f"agent: {error}\n  {error.what_to_do}\n")
        return error.exit_code
    return 0


def speaking(*, debug: bool = False) -> logging.Logger:
    """Have this process's log on standard error, without the chatter of libraries."""
    level = logging.DEBUG if debug else logging.INFO
    logging.basicConfig(format="agent: %(message)s", level=level, stream=sys.stderr)
    for noisy in ("engineio", "socketio", "urllib3", "watchdog"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # That a server which ends says so is an error to it.
    logging.getLogger("websocket").setLevel(logging.CRITICAL)
    return logging.getLogger("physicsrunner.agent")


def _settings(told: dict[str, Any]) -> Settings:
    known = {key: value for key, value in told.items() if value is not None}
    for key in ("work", "cache"):
        if key in known:
            known[key] = Path(known[key])
    return Settings(**known)


def _until_alone() -> None:
    sys.stdin.read()
    # An attempt may take days, and its threads would keep us. All that counts is on the disk; the
    # program has its own process group and writes on.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
