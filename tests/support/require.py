"""
What a test needs of the machine.

Missing things skip the test with a plain reason; with ``PHYSICSRUNNER_REQUIRE_ALL=1`` (as in
``.ci/run``) they fail it, so that nothing is left out unseen.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest


def unavailable(reason: str) -> None:
    """Skip the test for *reason*; fail it where everything is required."""
    if os.environ.get("PHYSICSRUNNER_REQUIRE_ALL") == "1":
        pytest.fail(f"PHYSICSRUNNER_REQUIRE_ALL=1, and {reason}")
    pytest.skip(reason)


def require(*programs: str) -> None:
    """Go on only if all *programs* are on the PATH (nginx may lie in /usr/sbin)."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    absent = [name for name in programs if shutil.which(name, path=path) is None]
    if absent:
        unavailable(f"{', '.join(absent)} is not installed")


def require_module(*names: str) -> None:
    """Go on only if all modules *names* can be imported."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        unavailable(f"the Python module {', '.join(absent)} is not installed")


def require_root(why: str) -> None:
    """Go on only as root; *why* says what for."""
    if os.geteuid() != 0:
        unavailable(f"root is needed: {why}")
