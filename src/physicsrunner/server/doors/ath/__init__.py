"""
The acoustics job manager's door, under ``/ath/api``: jobs, in the words of its document.

A browser client that queues, polls, stops and reviews jobs works here as it is. docs/ath.md says
what each call answers, and what is ours besides.
"""

from __future__ import annotations

from physicsrunner.server.doors.ath.routes import router

__all__ = ["router"]
