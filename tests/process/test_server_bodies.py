"""A server goes on answering everybody while somebody sends it the worst bodies that there are."""

from __future__ import annotations

import threading

import pytest
import requests

from physicsrunner.server.limits import MIB
from physicsrunner.wire import rest
from physicsrunner.wire.reading import MOST_MARKS
from tests.support.processes import Processes

#: As many values as are taken; and as much as a body may be, of nothing but empty lists.
_WORST = {
    "objects": '{"":[]},' * (MOST_MARKS // 4 - 10),
    "lists": "[]," * (MOST_MARKS // 2 - 10),
    "fractions": "0.12345678901234567," * (MOST_MARKS // 2 - 10),
}
_REFUSED = "[]," * (31 * MIB // 3)


@pytest.mark.parametrize("kind", [*_WORST, "refused"])
def test_everybody_is_answered_while_a_dense_body_is_read(processes: Processes, kind: str) -> None:
    """Reading, keeping and answering it leaves the event loop its turns."""
    server = processes.server()
    values = _WORST.get(kind, _REFUSED)
    body = f'{{"name": "dense", "claim": {{"agent": "a"}}, "parameters": {{"a": [{values}0]}}}}'
    headers = {"Authorization": f"Bearer {server.token}"}
    said: list[int] = []

    def send() -> None:
        for _ in range(4):
            answer = requests.post(
                server.url + rest.SIMULATIONS, data=body, headers=headers, timeout=60
            )
            said.append(answer.status_code)

    with requests.Session() as session:
        sender = threading.Thread(target=send)
        sender.start()
        answered = 0
        while sender.is_alive():
            health = session.get(f"{server.url}/health", timeout=10)
            assert health.ok
            answered += 1
        sender.join()
    assert said == [413 if kind == "refused" else 201] * 4
    # It was asked one time after the other: had it stood still, there would be a handful.
    assert answered > 20
