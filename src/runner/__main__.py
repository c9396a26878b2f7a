"""``python -m runner --configPath=config.json``: the same as ``python -m physicsrunner``."""

from __future__ import annotations

from physicsrunner.cli.start import main

if __name__ == "__main__":
    main()
