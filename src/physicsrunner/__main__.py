"""``python -m physicsrunner``: the whole command line."""

from __future__ import annotations

from physicsrunner.cli.start import main

if __name__ == "__main__":
    main()
