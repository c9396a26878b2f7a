"""physicsrunner: give it a main.py; it runs it anywhere, shows it live, and loses nothing."""

from __future__ import annotations

__version__ = "0.1.0"
