"""
What a main.py imports: its inputs, and how it tells of progress, results and series.

::

    from physicsrunner import solver

    viscosity = solver.input("viscosity", default=1e-3)
    solver.progress(50, "half way")
    solver.series("residual", iteration, residual)
    solver.result("t_max", 273.15, unit="K")
    solver.save_plot("temperature", figure)

Promises: importing it is cheap (what is heavy is imported when it is called), and everything works
outside a run too: files go to ``./outputs``. The names of the published package's solver module
are here with their behaviour, so that ``import physicsrunner.solver as ...`` takes its place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from physicsrunner.solver.environment import files_dir as files_dir
    from physicsrunner.solver.environment import graphics_dir as graphics_dir
    from physicsrunner.solver.environment import in_run as in_run
    from physicsrunner.solver.environment import inputs_dir as inputs_dir
    from physicsrunner.solver.environment import inputs_path as inputs_path
    from physicsrunner.solver.environment import logs_dir as logs_dir
    from physicsrunner.solver.environment import media_dir as media_dir
    from physicsrunner.solver.environment import outputs_dir as outputs_dir
    from physicsrunner.solver.environment import outputs_path as outputs_path
    from physicsrunner.solver.environment import plots_dir as plots_dir
    from physicsrunner.solver.environment import raw_dir as raw_dir
    from physicsrunner.solver.environment import raw_path as raw_path
    from physicsrunner.solver.environment import stop_requested as stop_requested
    from physicsrunner.solver.environment import work_dir as work_dir
    from physicsrunner.solver.interface import StepStatus as StepStatus
    from physicsrunner.solver.interface import append_status as append_status
    from physicsrunner.solver.interface import progress as progress
    from physicsrunner.solver.interface import update_solver_progress as update_solver_progress
    from physicsrunner.solver.outcome import add_to_simulation_results as add_to_simulation_results
    from physicsrunner.solver.outcome import (
        replace_placeholders_in_file as replace_placeholders_in_file,
    )
    from physicsrunner.solver.outcome import result as result
    from physicsrunner.solver.outcome import save_plot as save_plot
    from physicsrunner.solver.outcome import series as series
    from physicsrunner.solver.parameters import UnknownInput as UnknownInput
    from physicsrunner.solver.parameters import get_input_value_by_slug as get_input_value_by_slug
    from physicsrunner.solver.parameters import get_input_value_by_slugs as get_input_value_by_slugs
    from physicsrunner.solver.parameters import get_input_values_by_slug as get_input_values_by_slug
    from physicsrunner.solver.parameters import (
        get_input_values_by_slugs as get_input_values_by_slugs,
    )
    from physicsrunner.solver.parameters import input as input
    from physicsrunner.solver.parameters import inputs as inputs
    from physicsrunner.solver.parameters import load_run_inputs as load_run_inputs
    from physicsrunner.solver.parameters import (
        reconstruct_tree_from_run_inputs as reconstruct_tree_from_run_inputs,
    )
    from physicsrunner.solver.phases import post_remote as post_remote
    from physicsrunner.solver.phases import pre_remote as pre_remote
    from physicsrunner.solver.phases import remote as remote
    from physicsrunner.solver.phases import run_solver as run_solver

#: Module -> its public names. Loaded when first used: a main.py pays for what it calls.
_HOMES = {
    "environment": (
        "files_dir",
        "graphics_dir",
        "in_run",
        "inputs_dir",
        "inputs_path",
        "logs_dir",
        "media_dir",
        "outputs_dir",
        "outputs_path",
        "plots_dir",
        "raw_dir",
        "raw_path",
        "stop_requested",
        "work_dir",
    ),
    "interface": (
        "StepStatus",
        "append_status",
        "progress",
        "update_solver_progress",
    ),
    "outcome": (
        "add_to_simulation_results",
        "replace_placeholders_in_file",
        "result",
        "save_plot",
        "series",
    ),
    "parameters": (
        "UnknownInput",
        "get_input_value_by_slug",
        "get_input_value_by_slugs",
        "get_input_values_by_slug",
        "get_input_values_by_slugs",
        "input",
        "inputs",
        "load_run_inputs",
        "reconstruct_tree_from_run_inputs",
    ),
    "phases": (
        "post_remote",
        "pre_remote",
        "remote",
        "run_solver",
    ),
}

__all__ = [
    "StepStatus",
    "UnknownInput",
    "add_to_simulation_results",
    "append_status",
    "files_dir",
    "get_input_value_by_slug",
    "get_input_value_by_slugs",
    "get_input_values_by_slug",
    "get_input_values_by_slugs",
    "graphics_dir",
    "in_run",
    "input",
    "inputs",
    "inputs_dir",
    "inputs_path",
    "load_run_inputs",
    "logs_dir",
    "media_dir",
    "outputs_dir",
    "outputs_path",
    "plots_dir",
    "post_remote",
    "pre_remote",
    "progress",
    "raw_dir",
    "raw_path",
    "reconstruct_tree_from_run_inputs",
    "remote",
    "replace_placeholders_in_file",
    "result",
    "run_solver",
    "save_plot",
    "series",
    "stop_requested",
    "update_solver_progress",
    "work_dir",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
