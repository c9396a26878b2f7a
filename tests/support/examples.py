"""
How many examples of hypothesis a test tries.

Promise of `examples`: the number a test asks for, wherever all tests run. With the environment
variable PHYSICSRUNNER_FEW_EXAMPLES (CI on the oldest and the newest Python, whose interpreter is
what is tried there) it is a fourth, and never fewer than five.
"""

from __future__ import annotations

import os


def examples(number: int) -> int:
    """Return *number*, or a fourth of it where few are enough."""
    return max(5, number // 4) if os.environ.get("PHYSICSRUNNER_FEW_EXAMPLES") else number
