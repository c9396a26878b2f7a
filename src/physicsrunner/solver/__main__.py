"""``python -m physicsrunner.solver --configPath=config.json``: carry out a run, as published."""

from __future__ import annotations

import signal
import sys
import threading

from physicsrunner.runner.api import main

if __name__ == "__main__":
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sys.exit(main(stop=stop))
