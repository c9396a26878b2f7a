"""The published package's own runner completes runs at our door, and its files are whole."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.physicsworks_published import RUNNER, published_python, write_config
from tests.support.processes import Processes, ServerProcess

MAIN = '''
import argparse, base64, json, os, time
from pathlib import Path
import requests

parser = argparse.ArgumentParser()
for name in ("--inputsPath", "--outputsPath", "--rawPath"):
    parser.add_argument(name)
outputs = Path(parser.parse_args().outputsPath)
config = json.load(open(os.environ["PHYSICSWORKS_CONFIG_PATH"]))
headers = {"auth-token": config["token"]}
CHUNK = 5 * 1024 * 1024


def upload_file_chunked(path, metadata):
    """As the package's documentation shows it."""
    size = os.path.getsize(path)
    for index in range(size // CHUNK + 1):
        with open(path, "rb") as file:
            file.seek(index * CHUNK)
            chunk = file.read(CHUNK)
        payload = {
            "filename": os.path.basename(path),
            "fileSize": size,
            "chunkIndex": index,
            "chunk": base64.b64encode(chunk).decode("utf-8"),
            "metadata": metadata,
        }
        answer = requests.post(
            config["host"] + "storage/chunks", data={"json": json.dumps(payload)}, headers=headers
        )
        answer.raise_for_status()


(outputs / "files" / "field.vtp").write_bytes(os.urandom(6 * 1024 * 1024))
(outputs / "files" / "exact.bin").write_bytes(os.urandom(2 * CHUNK))
(outputs / "media" / "film.mp4").write_bytes(os.urandom(10 * 1024 * 1024))
for number in range(5):
    (outputs / "media" / f"frame{number}.png").write_bytes(os.urandom(2000))
with open(outputs / "logs" / "solver.log", "w") as log:
    for number in range(200):
        log.write(f"line {number}\\n")
        log.flush()
        time.sleep(0.01)
(outputs / "plots" / "residual.csv").write_text("iteration,residual\\n1,0.5\\n")
(outputs / "results.csv").write_text("t_max,converged,name\\n273.15,true,steel\\n")
node = {"status": "running", "progress": 75, "statusLabel": "Processing"}
run = os.environ["PHYSICSWORKS_RUN_ID"]
requests.put(
    config["host"] + f"simulation/run/update/{config['simulation']}/{run}",
    json={"node": node}, headers=headers,
).raise_for_status()
metadata = {
    "project": config["project"], "owner": config["owner"], "originalname": "exact.bin",
    "resource": run, "resourceKind": "Run", "simulation": config["simulation"],
}
upload_file_chunked(outputs / "files" / "exact.bin", metadata)
time.sleep(3)  # the published runner loses what is written in its last second
'''


class Native:
    """The native API, for looking at what came."""

    def __init__(self, server: ServerProcess) -> None:
        self.base = f"{server.url}/api/v1"
        self.headers = {"Authorization": f"Bearer {server.token}"}

    def post(self, path: str, **more: Any) -> Any:
        """Post; return the JSON answer."""
        answer = requests.post(self.base + path, headers=self.headers, timeout=30, **more)
        assert answer.ok, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        """Get a JSON answer."""
        answer = requests.get(self.base + path, headers=self.headers, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def artifact(self, run: str, path: str) -> bytes:
        """Get the bytes of an artifact."""
        url = f"{self.base}/simulations/{run}/artifacts/{path}"
        answer = requests.get(url, headers=self.headers, timeout=60)
        assert answer.ok, answer.text
        return answer.content

    def upload_model(self, main: str) -> str:
        """Upload a model of one main.py; return its id."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("main.py", main)
        return str(self.post("/models", params={"name": "case"}, data=packed.getvalue())["id"])


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("token_of", ["user", "attempt"])
def test_the_published_runner_completes_a_run_here(
    processes: Processes, tmp_path: Path, token_of: str
) -> None:
    """Installed from PyPI, it finds its scripts, reports, and every file it sends is whole."""
    python = published_python()
    server = processes.server()
    native = Native(server)
    model = native.upload_model(MAIN)
    token, known = server.token, None
    if token_of == "attempt":
        known = str(uuid.uuid4())
        request = {"id": known, "model_id": model, "name": "case", "claim": {"agent": "host-1"}}
        token = native.post("/simulations", json=request)["lease"]["token"]
    work = tmp_path / "work"
    config = write_config(work, f"{server.url}/physicsworks/", token, model)

    runner = processes.start([str(python), *RUNNER, f"--configPath={config}"], name="published")

    assert runner.wait(120.0) == 0, runner.story()
    run = json.loads(config.read_text())["resource"]["id"]
    assert known is None or run == known
    record = native.get(f"/simulations/{run}")
    assert (record["status"], record["progress_percent"]) == ("completed", 100.0)
    assert [
        (item["name"], item["value"]) for item in native.get(f"/simulations/{run}/results")["data"]
    ] == [("t_max", 273.15), ("converged", True), ("name", "steel")]
    assert_files(native, run, work / "outputs")


def assert_files(native: Native, run: str, outputs: Path) -> None:
    """All that the published runner sent lies here, sealed, under the names that people know."""
    stored = {item["path"]: item for item in native.get(f"/simulations/{run}/artifacts")["data"]}
    assert all(item["sealed"] for item in stored.values()), stored
    expected = {f"logs/{path.name}": path for path in (outputs / "logs").iterdir()}
    expected |= {f"outputs/plots/{path.name}": path for path in (outputs / "plots").iterdir()}
    expected |= {f"outputs/media/{path.name}": path for path in (outputs / "media").iterdir()}
    expected["outputs/data_files/exact.bin"] = outputs / "files" / "exact.bin"
    expected["outputs/result.zip"] = outputs / "result.zip"
    (archive,) = (outputs / "files").glob("vtp*.tar.gz")
    expected[f"outputs/data_files/{archive.name}"] = archive
    assert archive.stat().st_size > 5 * 1024 * 1024
    assert (outputs / "files" / "exact.bin").stat().st_size == 2 * 5 * 1024 * 1024
    for path, local in expected.items():
        assert sha256(native.artifact(run, path)) == sha256(local.read_bytes()), path
        assert stored[path]["sha256"] == sha256(local.read_bytes())
    assert set(stored) == {*expected, "metadata/physicsworks.jsonl"}
    with tarfile.open(
        fileobj=io.BytesIO(native.artifact(run, f"outputs/data_files/{archive.name}"))
    ) as tar:
        member = tar.extractfile("field.vtp")
        assert member is not None
        assert member.read() == (outputs / "files" / "field.vtp").read_bytes()


def test_the_published_runner_reports_a_failure(processes: Processes, tmp_path: Path) -> None:
    """A main.py that fails is a failed run here, with what it left."""
    python = published_python()
    server = processes.server()
    native = Native(server)
    main = MAIN.split("CHUNK =")[0] + (
        '(outputs / "logs" / "solver.log").write_text("about to fail\\n")\n'
        "time.sleep(2.5)\nraise SystemExit(3)\n"
    )
    model = native.upload_model(main)
    config = write_config(tmp_path / "work", f"{server.url}/physicsworks/", server.token, model)

    runner = processes.start([str(python), *RUNNER, f"--configPath={config}"], name="published")

    assert runner.wait(60.0) == 1, runner.story()
    run = json.loads(config.read_text())["resource"]["id"]
    record = native.get(f"/simulations/{run}")
    assert (record["status"], record["error_message"]) == ("failed", "Failed at script execution")
    assert native.artifact(run, "logs/solver.log") == b"about to fail\n"
