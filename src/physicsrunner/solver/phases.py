"""
The three phases of a published solver script, and `run_solver`, which takes both of its forms.

Promises: `run_solver` with callbacks carries out the phases here and answers 0 or 1; with the
keywords of a run it starts a whole run (`physicsrunner.run_solver`). Without arguments it does
the first inside a main.py that a runner started (its environment says so), and the second
everywhere else, reading the command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from physicsrunner.solver import environment
from physicsrunner.solver.interface import StepStatus, update_solver_progress

Phase = Callable[[], None]

_REHEARSAL = (
    ("Initializing computation", 20),
    ("Setting up solver", 30),
    ("Running main solver", 50),
    ("Computing results", 70),
    ("Finalizing computation", 85),
)
_PAUSE_S = 0.5  # of a phase that has nothing to do


def pre_remote(callback: Phase | None = None) -> None:
    """Carry out *callback* as the preparation, from 0 to 10 percent."""
    print("=== Pre-Remote Phase ===")
    update_solver_progress(0, "Starting pre-remote phase")
    _carry_out(callback, "pre-remote")
    update_solver_progress(10, "Pre-remote phase completed")
    print("Pre-remote phase completed")


def remote(callback: Phase | None = None) -> None:
    """Carry out *callback* as the main computation, from 15 to 90 percent."""
    print("=== Remote Phase ===")
    update_solver_progress(15, "Starting remote phase")
    if callback is None:
        print("No custom remote code provided, running simulation...")
        for message, percent in _REHEARSAL:
            update_solver_progress(percent, message)
            time.sleep(_PAUSE_S)
    else:
        print("Executing user-defined remote code...")
        callback()
    update_solver_progress(90, "Remote phase completed")
    print("Remote phase completed")


def post_remote(callback: Phase | None = None) -> None:
    """Carry out *callback* as the work after the computation."""
    print("=== Post-Remote Phase ===")
    _carry_out(callback, "post-remote")
    print("Post-remote phase completed")


def run_solver(
    pre_remote_fn: Phase | str | os.PathLike[str] | None = None,
    remote_fn: Phase | None = None,
    post_remote_fn: Phase | None = None,
    **run: Any,
) -> Any:
    """
    Carry out the three phases, or a whole run.

    Parameters
    ----------
    pre_remote_fn, remote_fn, post_remote_fn
        The callbacks of a published solver script. The answer is 0, or 1 when one raised.
    run
        ``config_path``, ``debug_mode``, ``skip_stages``, ``starting_stage``, ``on_progress``, ...
        of `physicsrunner.run_solver`; the answer is its result, truthy when the run completed.
        A path as the first argument is the ``config_path``.

    Notes
    -----
    Without arguments: inside a run (PHYSICSRUNNER_OUTPUTS_DIR or PHYSICSWORKS_OUTPUTS_DIR is
    set) the phases without callbacks; otherwise a run as the command line says.

    Raises
    ------
    TypeError
        If callbacks and keywords of a run are mixed.
    """
    if isinstance(pre_remote_fn, (str, os.PathLike)):
        run["config_path"], pre_remote_fn = pre_remote_fn, None
    callbacks = (pre_remote_fn, remote_fn, post_remote_fn)
    given = any(callback is not None for callback in callbacks)
    if given and run:
        raise TypeError(
            "run_solver takes the callbacks of the three phases or the keywords of a run "
            f"({', '.join(run)}), not both"
        )
    if run or not (given or environment.in_run()):
        from physicsrunner.runner.api import run_solver as whole_run  # heavy: only when called

        return whole_run(**run)
    return _phases(*callbacks)


def _phases(before: Phase | None, main: Phase | None, after: Phase | None) -> int:
    print("=== PhysicsWorks Solver Script ===")
    try:
        pre_remote(before)
        remote(main)
        post_remote(after)
    except Exception as error:
        # A script's own fault, of any kind, is an answer of 1 and a line in state.txt.
        print(f"Error in solver execution: {error}")
        try:
            update_solver_progress(0, f"Error: {error}", status=StepStatus.FAILED)
        except OSError as problem:
            print(f"state.txt cannot be written: {problem}")
        return 1
    print("=== All phases completed successfully ===")
    return 0


def _carry_out(callback: Phase | None, name: str) -> None:
    if callback is None:
        print(f"No custom {name} code provided")
        time.sleep(_PAUSE_S)
    else:
        print(f"Executing user-defined {name} code...")
        callback()
