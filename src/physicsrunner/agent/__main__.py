"""
The agent as a process of its own: ``python -m physicsrunner.agent``, started by `up`.

Promises: its first line of standard input is its configuration in JSON (a token would be seen by
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

from physicsrunner.agent.agent import Agent
from physicsrunner.agent.carry import Runner
from physicsrunner.errors import PhysicsRunnerError


def main() -> int:
    """Run until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    logging.basicConfig(format="agent: %(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("engineio", "socketio", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    cache = settings.get("cache")
    agent = Agent(
        settings["server"],
        settings["token"],
        Path(settings["work"]),
        carry_out=Runner(Path(cache) if cache else None),
        name=settings.get("name"),
        poll_s=float(settings.get("poll_s", 10.0)),
    )
    threading.Thread(target=_until_alone, args=(agent,), name="parent", daemon=True).start()
    try:
        agent.run()
    except PhysicsRunnerError as error:
        sys.stderr.write(f"agent: {error}\n  {error.what_to_do}\n")
        return error.exit_code
    return 0


def _until_alone(agent: Agent) -> None:
    sys.stdin.read()
    agent.stop()
    # An attempt may take days, and its threads would keep us. All that counts is on the disk; the
    # program has its own process group and writes on.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
