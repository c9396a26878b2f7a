"""
The PhysicsWorks door: the runner part of that wire, under ``/physicsworks/``.

The published package's own runner completes a run here, and a main.py that was written for it
reports and stores files here. docs/physicsworks.md says how the words of that wire map to ours.
"""

from __future__ import annotations

from physicsrunner.server.doors.physicsworks.routes import router

__all__ = ["router"]
