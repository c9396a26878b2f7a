"""Alembic's folder: how the tables came to be, one file a step. `store.migrate` runs it."""

from __future__ import annotations
