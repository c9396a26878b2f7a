"""
Looks for rings of garbage, put off while much is made of which none is.

Promises: nothing but the time of the looks changes, and they are on again in the end, whoever else
puts them off at the same time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage: of a hundred thousand new objects each look costs more."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
