"""
Conditions of indexes that hold some rows alone. Pure.

A query is given such an index only if it says the condition in the same words.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import text

IS_WAITING: Final = "status IN ('queued', 'retrying')"
IS_HELD: Final = "status IN ('paused', 'preparing', 'running')"
OF_PROJECT: Final = "project_id IS NOT NULL"
#: Of the table of counts: projects and studies that hold runs. Of thousands few do at a time.
IS_BUSY: Final = f"runs > 0 AND {IS_HELD} AND kind IN ('project', 'study')"


def only(condition: str) -> dict[str, Any]:
    """Return the arguments of an index of those rows alone."""
    return {f"{kind}_where": text(condition) for kind in ("sqlite", "postgresql")}
