"""One file a step; a released step is never changed."""

from __future__ import annotations
