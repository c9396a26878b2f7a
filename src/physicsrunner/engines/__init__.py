"""Where a program runs: base.py says what an engine promises, local.py is this machine."""
