"""
The architech door: simulations of designs, under ``/architech/``.

A front end written for that orchestration service starts, steers and watches runs here.
docs/architech.md says how its words map to ours, and what stands where its document says nothing.
"""

from __future__ import annotations

from physicsrunner.server.doors.architech.routes import router

__all__ = ["router"]
