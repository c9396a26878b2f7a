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
        attempt.folder.create()
        attempt.folder.control.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"the work folder {attempt.folder.root} cannot be used: {error}"
        ) from error
    document = {} if _lies_there(attempt) else read_config(attempt.config.path)
    if document:
        document["workDir"] = str(attempt.folder.root)
        write_private(attempt.folder.control / "config.json", json.dumps(document))
    attempt.log.info("run %s, attempt %d, in %s", attempt.run, attempt.number, attempt.folder.root)


def _lies_there(attempt: Attempt) -> bool:
    """Say whether whoever started many attempts put the configuration into the work folder."""
    own = attempt.folder.root / "config.json"
    return not attempt.station.alone and attempt.config.path == str(own)
