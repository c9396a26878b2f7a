"""What is made of main.py's files after it has ended: one thing a module."""

from __future__ import annotations
