"""
The main.py of the soak: writes files as its parameters say, and notes their digests elsewhere.

Its truth is a file outside of the work folder, written whole at the very end: what the server has
of a run that completed must equal it. Standard library only; it is sent to the agents as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import random
import sys
import time

SAID = hashlib.sha256()  #: of all that was printed


def main() -> int:
    """Do what the parameters say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputsPath")
    parser.add_argument("--outputsPath")
    known = parser.parse_known_args()[0]
    outputs = pathlib.Path(known.outputsPath)
    given = json.loads((pathlib.Path(known.inputsPath) / "parameters.json").read_text())
    given = given.get("inputs", given)
    config = json.loads(pathlib.Path(os.environ["PHYSICSRUNNER_CONFIG_PATH"]).read_text())
    attempt = int(config["attempt"])
    chance = random.Random(f"{given['seed']}-{attempt}")
    digests = write(outputs, chance, float(given["seconds"]), int(given["files"]), attempt)
    say(f"attempt {attempt} done")
    note = {"attempt": attempt, "digests": {**digests, "main.log": SAID.hexdigest()}}
    truth = pathlib.Path(os.environ["TRUTH"]) / f"{config['run']}-{attempt}.json"
    part = truth.with_suffix(".part")
    part.write_text(json.dumps(note))
    part.rename(truth)
    return 3 if given["kind"] == "fails" or attempt <= int(given["fails"]) else 0


def say(text: str) -> None:
    """Print a line, and remember it."""
    SAID.update(text.encode() + b"\n")
    print(text, flush=True)


def write(
    outputs: pathlib.Path, chance: random.Random, seconds: float, files: int, attempt: int
) -> dict[str, str]:
    """Write files bit by bit for so many seconds; return the digest of each by its name."""
    folder = outputs / "files"
    folder.mkdir(parents=True, exist_ok=True)
    streams = [(folder / f"part-{n}.bin").open("wb") for n in range(files)]
    digests = [hashlib.sha256() for _ in range(files)]
    steps = max(1, int(seconds / 0.25))
    for step in range(steps):
        number = chance.randrange(files)
        data = b"%d of attempt %d " % (step, attempt) + chance.randbytes(chance.randrange(20_000))
        streams[number].write(data)
        streams[number].flush()
        digests[number].update(data)
        say(f"Progress: {100 * (step + 1) // steps}% step {step}")
        time.sleep(seconds / steps)
    for stream in streams:
        stream.close()
    text = json.dumps({"attempt": attempt}).encode()
    (folder / "attempt.json").write_bytes(text)
    found = {f"part-{n}.bin": digest.hexdigest() for n, digest in enumerate(digests)}
    return {**found, "attempt.json": hashlib.sha256(text).hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
