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

from physicsrunner.solver.environment import (
    files_dir,
    graphics_dir,
    in_run,
    inputs_dir,
    inputs_path,
    logs_dir,
    media_dir,
    outputs_dir,
    outputs_path,
    plots_dir,
    raw_dir,
    raw_path,
    stop_requested,
    work_dir,
)
from physicsrunner.solver.interface import (
    StepStatus,
    append_status,
    progress,
    update_solver_progress,
)
from physicsrunner.solver.outcome import (
    add_to_simulation_results,
    replace_placeholders_in_file,
    result,
    save_plot,
    series,
)
from physicsrunner.solver.parameters import (
    UnknownInput,
    get_input_value_by_slug,
    get_input_value_by_slugs,
    get_input_values_by_slug,
    get_input_values_by_slugs,
    input,
    inputs,
    load_run_inputs,
    reconstruct_tree_from_run_inputs,
)
from physicsrunner.solver.phases import post_remote, pre_remote, remote, run_solver

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
