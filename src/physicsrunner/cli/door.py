"""
The one door where errors become exit codes and words: ``error: ...``, and what to do.

Promises: no traceback without ``--debug``; with ``--json`` the words are a JSON object on standard
error. It loads no library: a run begins behind it without waiting for the command line's.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Final

from physicsrunner.errors import PhysicsRunnerError, ServerUnavailable, StorageFull, UsageError

INTERRUPTED: Final = 130
_LIBRARIES: Final = ("watchdog", "urllib3", "socketio", "engineio")
_NO_SERVER: Final = "`physicsrunner up` starts a server here; --host URL names another one."


def behind_door(call: Callable[[], int], *, as_json: bool = False, debug: bool = False) -> int:
    """Return the exit code of *call*, or tell what went wrong and return the code for that."""
    if not debug:
        _quiet()
    try:
        return call()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`). Nothing more to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ServerUnavailable as error:
        return tell(_plainly(error), _NO_SERVER, as_json=as_json, debug=debug)
    except PhysicsRunnerError as error:
        return tell(error, as_json=as_json, debug=debug)
    except OSError as error:
        return tell(_of_system(error), as_json=as_json, debug=debug)
    except Exception as error:
        if debug:
            raise
        text = f"unexpected {type(error).__name__}: {error}; --debug shows where"
        return tell(PhysicsRunnerError(text), as_json=as_json, debug=debug)


def _quiet() -> None:
    """Keep warnings of libraries off the terminal; what matters to a person is said in words."""
    for name in _LIBRARIES:
        logging.getLogger(name).addHandler(logging.NullHandler())


def _plainly(error: ServerUnavailable) -> ServerUnavailable:
    """Leave out what a library says of a connection that was never made."""
    return ServerUnavailable(str(error).partition(" (")[0]) if "(" in str(error) else error


def _of_system(error: OSError) -> PhysicsRunnerError:
    where = f"{error.filename}: " if error.filename else ""
    text = f"{where}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(text)
    return UsageError(text)


def tell(error: PhysicsRunnerError, hint: str | None = None, *, as_json: bool, debug: bool) -> int:
    """Write *error* and what to do about it; return its exit code."""
    if debug:
        import traceback

        traceback.print_exc()
    hint = hint or error.what_to_do
    text = str(error) or type(error).__name__
    if as_json:
        problem = {
            "error": text,
            "code": error.code,
            "retryable": error.retryable,
            "what_to_do": hint,
            "exit_code": error.exit_code,
        }
        sys.stderr.write(json.dumps(problem) + "\n")
    else:
        if not text.isprintable():  # a name in it must not steer the terminal
            from physicsrunner.cli.tables import printable

            text = "\n".join(map(printable, text.split("\n")))
        sys.stderr.write(f"error: {text}\n  {hint}\n")
    return error.exit_code
