"""``python -m physicsrunner.solver --configPath=config.json``: carry out a run, as published."""

from __future__ import annotations

import sys

from physicsrunner.core.state import RunState
from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.runner.api import run_solver

# As docs/exit-codes.md lists them.
EXIT_CODES = {RunState.COMPLETED: 0, RunState.CANCELLED: 3, RunState.TIMEOUT: 4}


def main() -> int:
    """Carry out the run that the command line names; return the exit code."""
    try:
        result = run_solver()
    except PhysicsRunnerError as error:
        print(f"physicsrunner: {error}\n{error.what_to_do}", file=sys.stderr)
        return error.exit_code
    return EXIT_CODES.get(result.state, 1)


if __name__ == "__main__":
    sys.exit(main())
