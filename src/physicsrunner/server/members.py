"""
One who listens, whatever the door: what the rooms need of a connection.

Promises: nothing here waits for the other side but `Member.send_away`, and that not for long.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from functools import cached_property
from typing import Any

from physicsrunner.errors import PhysicsRunnerError
from physicsrunner.service.access import Identity
from physicsrunner.service.events import Room
from physicsrunner.wire.live import Event


class Why(Enum):
    """Why a member is sent away."""

    SLOW = "slow"
    TOKEN = "token"  # noqa: S105 - a reason, no secret
    STOPPING = "stopping"


class Told:
    """An event on its way; each door puts it into words once, under a name of its own."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.words: dict[str, Any] = {}

    @cached_property
    def envelope(self) -> dict[str, Any]:
        """The event as it travels."""
        return self.event.envelope()


class Member(ABC):
    """One connection of somebody who listens; each door has its own kind."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.rooms: dict[str, Room] = {}
        self.gone = False

    @abstractmethod
    def tell(self, told: Told) -> None:
        """Have the event sent; never waits."""

    @abstractmethod
    def command(self, data: dict[str, Any]) -> None:
        """Have a command sent to an agent; never waits."""

    @abstractmethod
    def left(self, room: str, error: PhysicsRunnerError) -> None:
        """Have it said that it hears no more of *room*, and why; never waits."""

    @abstractmethod
    def waiting(self) -> int:
        """Return how many messages have not been sent yet."""

    @abstractmethod
    async def send_away(self, why: Why) -> None:
        """End the connection without waiting for the other side."""
