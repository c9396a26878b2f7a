"""Files as programs really treat them: what lies there at the end is what the server has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Processes, ServerProcess, Started
from tests.support.voyage import Voyage
from tests.support.wait import wait_until

NAMES = (
    "with space.txt",
    'it\'s "quoted".txt',
    "emoji \N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}.txt",
    "line\nbreak.txt",
    "tab\tand\\backslash.txt",
    "-rf",
    "...dots",
    "100%41.txt",
    "?query#fragment&x=1;y",
    "e\N{COMBINING ACUTE ACCENT}.txt",
    "\N{LATIN SMALL LETTER E WITH ACUTE}.txt",
    "n" * 255,
    "deep/er/and/deeper/x.txt",
    "\x01\x7f control.txt",
)


@pytest.fixture
def server(shared_server: ServerProcess) -> ServerProcess:
    """One server for all tests of this file: each looks at runs of its own alone."""
    return shared_server


def _stored(voyage: Voyage, runner: Started, path: str, size: int) -> None:
    """Wait until the server has *size* bytes of *path*."""

    def arrived() -> bool:
        return bool(voyage.document()) and voyage.stored().get(path, {}).get("size") == size

    wait_until(arrived, timeout=60, interval=0.1, on_timeout=runner.story)


CHANGES = {
    "shrinks": ("path.open('r+b').truncate(1000)", ["a.bin"]),
    "shrinks to nothing": ("path.open('wb').close()", ["a.bin"]),
    "is cut and grows again": (
        "path.write_bytes(b'head'); f = path.open('ab'); f.write(os.urandom(2_000_000)); f.close()",
        ["a.bin"],
    ),
    "is changed in its middle": (
        "f = path.open('r+b'); f.seek(500_000); f.write(b'changed'); f.close()",
        ["a.bin"],
    ),
    "is changed with its old times": (
        (
            "s = path.stat(); f = path.open('r+b'); f.seek(9); f.write(b'x'); f.close()\n"
            "os.utime(path, ns=(s.st_atime_ns, s.st_mtime_ns))"
        ),
        ["a.bin"],
    ),
    "is replaced by one of its size": (
        "new = files / 'new'; new.write_bytes(os.urandom(1_000_000)); new.replace(path)",
        ["a.bin"],
    ),
    "is deleted": ("path.unlink()", []),
    "is deleted and comes back": ("path.unlink(); path.write_bytes(b'again')", ["a.bin"]),
    "is renamed": ("path.rename(files / 'b.bin')", ["b.bin"]),
    "changes place with another": (
        (
            "o = files / 'o'; o.write_bytes(b'other'); path.rename(files / 't')\n"
            "o.rename(path); (files / 't').rename(o)"
        ),
        ["a.bin", "o"],
    ),
    "becomes a folder": (
        "path.unlink(); path.mkdir(); (path / 'inside').write_bytes(b'in')",
        ["a.bin/inside"],
    ),
    "moves into a folder of its name": (
        "path.rename(files / 't'); path.mkdir(); (files / 't').rename(path / 'a.bin')",
        ["a.bin/a.bin"],
    ),
    "was in a folder whose name it takes": (
        (
            "d = files / 'd'; d.mkdir(); path.rename(d / 'x'); tell('moved'); wait_for('on')\n"
            "(d / 'x').rename(files / 't'); d.rmdir(); (files / 't').rename(d)"
        ),
        ["d"],
    ),
    "gets a hole": (
        "f = path.open('r+b'); f.seek(5_000_000); f.write(b'end'); f.close()",
        ["a.bin"],
    ),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_a_file_that(
    what: str, processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A file that had arrived and then is changed in this way is on the server as it is now."""
    change, left = CHANGES[what]
    main = f"""path = files / "a.bin"
path.write_bytes(os.urandom(1_000_000))
tell("written")
wait_for("go")
{change}
"""
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    voyage.await_told(runner, "written")
    _stored(voyage, runner, "outputs/data_files/a.bin", 1_000_000)
    voyage.make("go")
    if "moved" in change:
        voyage.await_told(runner, "moved")
        _stored(voyage, runner, "outputs/data_files/d/x", 1_000_000)
        voyage.make("on")
    assert runner.wait() == 0, runner.story()
    voyage.whole(*(f"outputs/data_files/{name}" for name in left))
    below = {p for p in voyage.stored() if p.startswith("outputs/data_files/")}
    assert below == {f"outputs/data_files/{name}" for name in left}


def test_names_of_every_kind(processes: Processes, server: ServerProcess, tmp_path: Path) -> None:
    """Spaces, quotes, emoji, newlines, 255 bytes, bytes that are no text: all come back."""
    main = f"""
    for name in {NAMES!r}:
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    pathlib.Path(os.fsdecode(os.fsencode(files) + b"/raw \\xff\\xfe.bin")).write_bytes(b"raw")
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait() == 0, runner.story()
    voyage.whole(*(f"outputs/data_files/{name}" for name in NAMES))
    assert "outputs/data_files/raw \ufffdFF\ufffdFE.bin" in voyage.stored()


def test_links_and_special_files(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A link out of outputs/ is not followed and said so; one inside is sent as a file."""
    secret = tmp_path / "secret.txt"
    secret.write_text("not yours")
    main = f"""
    import socket
    (files / "real.txt").write_text("real")
    (files / "inside.txt").symlink_to("real.txt")
    (files / "out.txt").symlink_to({str(secret)!r})
    (files / "relative.txt").symlink_to("../../../secret.txt")
    (outputs / "folder").symlink_to({str(tmp_path)!r})
    (files / "loop").symlink_to("loop")
    (files / "dangling").symlink_to("nothing")
    (files / "up").symlink_to("..")
    os.mkfifo(files / "fifo")
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(files / "socket"))
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait() == 0, runner.story()
    voyage.whole("outputs/data_files/real.txt")
    stored = voyage.stored()
    assert (
        voyage.get(
            f"/api/v1/simulations/{voyage.run}/artifacts/outputs/data_files/inside.txt"
        ).content
        == b"real"
    )
    for name in ("out.txt", "relative.txt", "loop", "dangling", "fifo", "socket"):
        assert f"outputs/data_files/{name}" not in stored
    assert not [path for path in stored if "secret" in path or path.startswith("outputs/folder")]
    assert "out.txt" in runner.output()


@pytest.mark.slow
def test_ten_thousand_files_and_the_end(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """10,000 files in one burst that ends with exit: all of them arrive."""
    main = """
    for number in range(10_000):
        (files / f"{number:05}.txt").write_text(f"{number}\\n" * 10)
    os._exit(0)
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait(240) == 0, runner.story()
    assert len(voyage.stored()) >= 10_000
    voyage.whole("outputs/data_files/09999.txt")


def test_the_last_words_before_the_end(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """500 media in the last moment and a log without a last line end are all there."""
    main = """
    media = outputs / "media"
    with (outputs / "logs" / "solver.log").open("w") as log:
        for number in range(500):
            (media / f"{number}.png").write_bytes(os.urandom(2000))
            log.write(f"picture {number}\\n")
        log.write("the end, without a line end")
    sys.stdout.write("so ends this one")
    sys.stdout.flush()
    os._exit(0)
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait() == 0, runner.story()
    voyage.whole("outputs/media/499.png", "logs/solver.log")
    log = (voyage.work / "outputs" / "logs" / "main.log").read_text()
    assert log.endswith("so ends this one")


def test_a_file_that_is_written_while_it_is_sealed(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A child that goes on writing after main.py has ended is ended; what it wrote is whole."""
    main = """
    if os.fork() == 0:
        with (files / "late.bin").open("wb") as late:
            while True:
                late.write(os.urandom(10_000))
                late.flush()
                time.sleep(0.001)
    while not (files / "late.bin").exists() or not (files / "late.bin").stat().st_size:
        time.sleep(0.01)
    time.sleep(0.2)
    os._exit(0)
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait() == 0, runner.story()
    voyage.whole("outputs/data_files/late.bin")


def test_an_endless_line_and_a_million_lines(
    processes: Processes, server: ServerProcess, tmp_path: Path
) -> None:
    """A log line of 20 MB without an end and 200,000 status lines hold nothing up."""
    main = """
    sys.stdout.write("x" * 20_000_000)
    with (outputs / "state.txt").open("w") as state:
        for step in range(200_000):
            state.write(f"step {step}: {step / 2000:.3f}%\\n")
    """
    voyage = Voyage(processes, server, tmp_path / "work", main)
    runner = voyage.start()
    assert runner.wait() == 0, runner.story()
    voyage.whole("logs/main.log", "outputs/state.txt")
    assert (voyage.work / "outputs" / "logs" / "main.log").stat().st_size == 20_000_000
