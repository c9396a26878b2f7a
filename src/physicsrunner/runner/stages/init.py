"""
Stage init: the folders, the log, and what the runner itself needs after a kill.

Repeatable from its start at any time; it deletes nothing.
"""

from __future__ import annotations

import json

from physicsrunner.errors import ConfigError
from physicsrunner.runner.context import Attempt
from physicsrunner.runner.environment import read_config, write_private


def run(attempt: Attempt) -> None:
    """Make the folders and keep the configuration for a later ``physicsrunner sync``."""
    try:
        # An agent makes the folders of what it was granted; later one of them may be missing.
        if not (attempt.fresh and attempt.folder.is_made()):
            attempt.folder.create()
    except OSError as error:
        raise ConfigError(
            f"the work folder {attempt.folder.root} cannot be used: {error}"
        ) from error
    path = attempt.config.path
    kept = path is not None and not attempt.station.alone and attempt.folder.lies_there(path)
    document = {} if kept else read_config(path)
    if document:
        document["workDir"] = str(attempt.folder.root)
        write_private(attempt.folder.control / "config.json", json.dumps(document))
    attempt.log.info("run %s, attempt %d, in %s", attempt.run, attempt.number, attempt.folder.root)
