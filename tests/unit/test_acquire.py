"""Asking for work: when, and how much at once."""

from __future__ import annotations

import logging
from typing import Any, cast

from physicsrunner.agent.acquire import BATCH, PACE_S, Acquirer
from physicsrunner.agent.resources import Machine
from physicsrunner.client.http import Http
from physicsrunner.wire.codec import encode
from physicsrunner.wire.messages import LeaseGrant, Resources


class Server:
    """Answers with so many grants."""

    def __init__(self) -> None:
        self.count = 0

    def value(self, _method: str, _path: str, *, json: Any) -> list[Any]:
        del json
        return [encode(LeaseGrant(f"r{n}", 1, n, "n", 9.0, 1.0, "t")) for n in range(self.count)]


def test_only_who_was_given_a_little_work_waits_for_more_slots() -> None:
    """After some work comes a short pause; after none, or as much as can be, there is no pause."""
    server, now = Server(), [100.0]
    machine = Machine(Resources(cpu_cores=4.0), 4)
    acquirer = Acquirer(
        cast("Http", server),
        "agent",
        machine,
        random=lambda: 0.5,
        log=logging.getLogger("test"),
        now=lambda: now[0],
    )
    for count in (0, BATCH):
        server.count = count
        assert len(acquirer.acquire(Resources(), 100, [])) == count
        assert acquirer.pause_s() == 0.0
    server.count = 2
    acquirer.acquire(Resources(), 100, [])
    assert 0.0 < acquirer.pause_s() <= PACE_S
    now[0] += 2 * PACE_S
    assert acquirer.pause_s() == 0.0
    now[0] -= 1000.0  # whatever the clock does, the pause is short
    assert acquirer.pause_s() <= PACE_S
