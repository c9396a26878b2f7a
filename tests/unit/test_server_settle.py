"""A server that serves no longer looks for garbage among what was loaded."""

from __future__ import annotations

import gc

from physicsrunner.server import serve


def test_what_is_loaded_is_left_out_of_the_search_for_garbage() -> None:
    """Garbage is still found, in what comes afterwards alone."""
    before = gc.get_threshold()
    try:
        serve.settle()
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()
        assert gc.get_threshold() == serve.GARBAGE
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
