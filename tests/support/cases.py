"""Small cases: a folder with a main.py, made where a test wants it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

#: A main.py starts with this: the folder of its outputs, by the wire contract's argument.
PREAMBLE = """\
import argparse, os, pathlib, sys, time
_parser = argparse.ArgumentParser()
for _name in ("--inputsPath", "--outputsPath", "--rawPath"):
    _parser.add_argument(_name)
_known = _parser.parse_known_args()[0]
inputs, outputs, raw = (
    pathlib.Path(_path) for _path in (_known.inputsPath, _known.outputsPath, _known.rawPath)
)
files = outputs / "files"
work = outputs.parent

def wait_for(name):
    "Go on when the test has made this file in the work folder."
    while not (work / name).exists():
        time.sleep(0.01)

def tell(name, text=""):
    "Tell the test something, by a file that is not sent."
    (work / (name + ".new")).write_text(str(text))
    (work / (name + ".new")).rename(work / name)
"""

HELLO = """\
(files / "hello.txt").write_text("hello\\n")
(outputs / "results.csv").write_text("answer\\n42\\n")
print("done")
"""


def make_case(
    folder: Path,
    main: str = HELLO,
    *,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    inputs: Mapping[str, bytes] | None = None,
    raw: Mapping[str, bytes] | None = None,
    series: Sequence[Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    preamble: bool = True,
) -> Path:
    """
    Write a case into *folder* and return it.

    *main* is the text of main.py (dedented); with *preamble* it finds ``inputs``, ``outputs``,
    ``raw`` and ``files`` (outputs/files) as paths. *inputs* and *raw* are files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = (PREAMBLE if preamble else "") + textwrap.dedent(main)
    (folder / "main.py").write_text(text, encoding="utf-8")
    document = {
        "name": name,
        "parameters": dict(parameters) if parameters is not None else None,
        "series": list(series) if series is not None else None,
        "limits": dict(limits) if limits is not None else None,
    }
    known = {key: value for key, value in document.items() if value is not None}
    if known:
        (folder / "case.yaml").write_text(yaml.safe_dump(known), encoding="utf-8")
    for below, contents in (("inputs", inputs), ("raw", raw)):
        for path, data in (contents or {}).items():
            target = folder / below / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return folder


def make_work_folder(
    root: Path, main: str = HELLO, *, preamble: bool = True, **config: Any
) -> Path:
    """
    Make a work folder with scripts/main.py and config.json; return the path of config.json.

    ``workDir`` is *root*; *config* are more keys (``server``, ``run``, ``attempt``, ``token``).
    """
    make_case(root / "scripts", main, preamble=preamble)
    path = root / "config.json"
    path.write_text(json.dumps({"workDir": str(root), **config}), encoding="utf-8")
    return path
