"""A main.py that was written for the published package runs under our runner, unchanged."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from pathlib import Path

import requests

from tests.support.processes import Processes

#: What that package's documentation shows: config.json, direct calls, a chunked upload.
MAIN = """
import base64, json, os, requests

config = json.load(open("config.json"))
headers = {"auth-token": config["token"]}
run_id = config["resource"]["id"]
simulation_data = requests.get(
    f"{config['host']}simulation/run_data/read/{config['project']}/{config['simulation']}",
    headers=headers,
).json()
assert simulation_data["inputs"][0]["value"] == 0.01, simulation_data
node = {"status": "running", "progress": 75, "statusLabel": "Processing"}
requests.put(
    f"{config['host']}simulation/run/update/{config['simulation']}/{run_id}",
    json={"node": node}, headers=headers,
).raise_for_status()
results = [{"name": "temperature_max", "type": "scalar", "value": 273.15}]
requests.put(
    f"{config['host']}simulation/run/patch/{run_id}", json={"results": results}, headers=headers
).raise_for_status()
metadata = {
    "project": config["project"], "owner": config["owner"], "originalname": "results.vtk",
    "resource": config["job"], "resourceKind": "Run", "simulation": config["simulation"],
}
whole = bytes(range(256)) * 24 * 1024
size = 5 * 1024 * 1024
for i in range(int(len(whole) / size) + 1):
    payload = {
        "filename": "results.vtk",
        "fileSize": len(whole),
        "chunkIndex": i,
        "chunk": base64.b64encode(whole[i * size : (i + 1) * size]).decode("utf-8"),
        "metadata": metadata,
    }
    requests.post(
        f"{config['host']}storage/chunks", data={"json": json.dumps(payload)}, headers=headers
    ).raise_for_status()
"""


def test_direct_calls_of_a_script(processes: Processes, tmp_path: Path) -> None:
    """It finds config.json beside it, reports, uploads a file in chunks, and the run completes."""
    server = processes.server()
    base, headers = f"{server.url}/api/v1", {"Authorization": f"Bearer {server.token}"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", MAIN)
    model = requests.post(
        f"{base}/models?name=script", data=packed.getvalue(), headers=headers, timeout=30
    ).json()
    run = str(uuid.uuid4())
    request = {
        "id": run,
        "model_id": model["id"],
        "parameters": {"inputs": {"nu": 0.01}},
        "claim": {"agent": "host-1"},
    }
    claimed = requests.post(f"{base}/simulations", json=request, headers=headers, timeout=30)
    work = tmp_path / "work"
    work.mkdir()
    config = work / "config.json"
    document = {"workDir": str(work), "server": server.url, "run": run, "attempt": 1}
    config.write_text(json.dumps({**document, "token": claimed.json()["lease"]["token"]}))

    runner = processes.runner(config)

    assert runner.wait() == 0, runner.story()
    record = requests.get(f"{base}/simulations/{run}", headers=headers, timeout=30).json()
    assert record["status"] == "completed"
    path = f"{base}/simulations/{run}/artifacts/outputs/data_files/results.vtk"
    stored = requests.get(path, headers=headers, timeout=30)
    whole = bytes(range(256)) * 24 * 1024
    assert hashlib.sha256(stored.content).digest() == hashlib.sha256(whole).digest()
    document = requests.put(
        f"{server.url}/physicsworks/simulation/run/patch/{run}",
        json={},
        headers={"auth-token": server.token},
        timeout=30,
    ).json()
    assert document["results"] == [{"name": "temperature_max", "type": "scalar", "value": 273.15}]
