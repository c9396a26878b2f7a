"""The main.py programs that `faults` lets loose. Each is a text; ``SEED`` is put in front."""

from __future__ import annotations

#: Writes, appends, rewrites, cuts, renames and deletes, by chance of its seed, until it may end.
RESTLESS = """
import random
chance = random.Random(SEED)
log = (outputs / "logs" / "solver.log").open("a")
state = (outputs / "state.txt").open("a")
done = {}
names = ["plain", "with space", "it's", 'qu"ote', "\\u00e9\\U0001f44b", "line\\nbreak", "-rf"]

def count(what):
    done[what] = done.get(what, 0) + 1

def some():
    return [p for p in files.iterdir() if p.is_file()]

step = 0
while not (work / "go").exists() or step < 40:
    step += 1
    log.write(f"iteration {step}: residual = {1 / step:.6f}\\n")
    log.flush()
    state.write(f"step {step}: {step % 100}%\\n")
    state.flush()
    what = chance.choices(
        ["new", "grow", "rewrite", "patch", "shrink", "rename", "delete", "replace"],
        [8, 10, 2, 3, 2, 2, 2, 2],
    )[0]
    there = some()
    path = chance.choice(there) if there else files / "first.bin"
    if what == "new" or not there:
        if len(there) < 60:
            path = files / f"{chance.choice(names)} {step}.bin"
            path.write_bytes(os.urandom(chance.choice([0, 1, 900, 40_000, 700_000])))
    elif what == "grow":
        if path.stat().st_size < 8_000_000:
            with path.open("ab") as file:
                for _ in range(5):
                    file.write(os.urandom(chance.choice([10, 4000, 60_000])))
                    file.flush()
    elif what == "rewrite":
        path.write_bytes(os.urandom(chance.choice([5, 50_000, 400_000])))
        count("file rewritten")
    elif what == "patch":
        with path.open("r+b") as file:
            file.seek(chance.randrange(path.stat().st_size + 1))
            file.write(b"patched")
    elif what == "shrink":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        count("file shrinks")
    elif what == "rename":
        path.rename(files / f"renamed {step}.bin")
        count("file renamed")
    elif what == "delete":
        path.unlink()
        count("file deleted")
    else:
        fresh = work / "fresh"
        fresh.write_bytes(os.urandom(path.stat().st_size))
        fresh.replace(path)
        count("file replaced")
    if step % 10 == 0:
        tell("file-faults", __import__("json").dumps(done))
        tell("pid", os.getpid())
    time.sleep(0.03)
log.write("the end, without a line end")
log.close()
state.close()
tell("file-faults", __import__("json").dumps(done))
"""

#: How a restless main.py ends. Name of the fault -> (its last lines, whether the run completes).
ENDINGS = {
    "": ("", True),
    "main.py exits 3": ("sys.exit(3)\n", False),
    "main.py by a signal": ("import signal; os.kill(os.getpid(), signal.SIGSEGV)\n", False),
    "burst before exit": (
        """
for n in range(2000):
    (files / f"burst {n}").write_bytes(os.urandom(300))
os._exit(0)
""",
        True,
    ),
    "main.py leaves children": (
        """
import subprocess
endless = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(endless, start_new_session=True)
""",
        True,
    ),
}

#: Fills standard output.
FLOOD = """
line = (b"%063d\\n" % SEED) * 16384
tell("pid", os.getpid())
for _ in range(1024):
    os.write(1, line)
"""

#: Does not stop when it is asked to; the time limit of its run ends it.
STUBBORN = """
import signal
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
with (files / f"stubborn {os.getpid()}.bin").open("wb") as out:
    while True:
        out.write(os.urandom(5000))
        out.flush()
        time.sleep(0.01)
"""
