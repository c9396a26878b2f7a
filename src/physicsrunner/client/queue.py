"""
What people ask of runs that are there, of the queue and of agents.

Promises those of `client.asking.Asking`. A new run that follows from another (`retry`) is made once
even if its answer is lost and it is asked for again.
"""

from __future__ import annotations

import builtins
import uuid
from typing import Any

from physicsrunner.client.asking import Asking
from physicsrunner.errors import NotFound
from physicsrunner.wire import rest

_List = builtins.list


class QueueCalls(Asking):
    """See the module; `client.client.Client` is the whole."""

    # -- one run -----------------------------------------------------------------------------

    def cancel(self, run: str | int, *, force: bool = False) -> dict[str, Any]:
        """
        Ask a run to stop; return where it stands.

        The state is ``cancelled`` when its program has stopped. With *force* a run whose agent
        cannot be reached is cancelled at once.
        """
        return self._asked(run, "cancel", {"force": True} if force else {})

    def pause(self, run: str | int) -> dict[str, Any]:
        """Hold a waiting run, or stop a running program where it is; return where it stands."""
        return self._asked(run, "pause")

    def resume(self, run: str | int) -> dict[str, Any]:
        """Let a held run be handed out, or a paused program go on; return where it stands."""
        return self._asked(run, "resume")

    def pin(self, run: str | int) -> dict[str, Any]:
        """Keep a run for ever: nobody and no retention deletes it."""
        return self._asked(run, "pin")

    def unpin(self, run: str | int) -> dict[str, Any]:
        """Let a run be deleted again."""
        return self._asked(run, "unpin")

    def retry(self, run: str | int) -> dict[str, Any]:
        """Queue a new run with all that an ended one was given; return its document."""
        return self._asked(run, "retry", {"id": str(uuid.uuid4())})

    def delete(self, run: str | int) -> dict[str, Any]:
        """
        Delete a run that has ended, with its files.

        Raises
        ------
        NotTerminal
            If it has not ended.
        Pinned
            If it is to be kept.
        """
        return dict(self._value("DELETE", rest.simulation(str(run))))

    def attempts(self, run: str | int) -> _List[dict[str, Any]]:
        """Return who tried to carry a run out, and how each try ended; the first one first."""
        return list(self._value("GET", f"{rest.simulation(str(run))}/attempts")["data"])

    def _asked(self, run: str | int, what: str, body: Any = None) -> dict[str, Any]:
        path = f"{rest.simulation(str(run))}/{what}"
        return dict(self._value("POST", path, json={} if body is None else body))

    # -- the queue ---------------------------------------------------------------------------

    def queue(self) -> dict[str, Any]:
        """Return how the queue stands: ``counts`` by state, who is ``next`` and why, ``agents``."""
        return dict(self._value("GET", rest.QUEUE))

    def studies(
        self,
        project: str | None = None,
        *,
        name: str | None = None,
        limit: int = 1000,
        offset: int = 0,
    ) -> _List[dict[str, Any]]:
        """Return the studies (of that name), the newest first, with how their runs stand."""
        asked = {"project_id": project, "name": name, "limit": limit, "offset": offset}
        params = {key: value for key, value in asked.items() if value is not None}
        return list(self._value("GET", rest.STUDIES, params=params)["data"])

    def study(
        self, name: str, *, project: str | None = None, max_concurrent_runs: int | None = None
    ) -> dict[str, Any]:
        """Return the study of that id or name (the newest one); make it when there is none."""
        try:
            uuid.UUID(name)
            return dict(self._value("GET", rest.study(name)))
        except (ValueError, NotFound):
            named = self.studies(project, name=name, limit=1)
            # A server that knows no such filter answers with the newest of all.
            found = [one for one in named if one["name"] == name.strip()]
        if found:
            return found[0]
        wanted = {
            "id": str(uuid.uuid4()),
            "name": name,
            "project_id": project,
            "max_concurrent_runs": max_concurrent_runs,
        }
        return dict(self._value("POST", rest.STUDIES, json=wanted))

    # -- agents ------------------------------------------------------------------------------

    def agents(self) -> _List[dict[str, Any]]:
        """Return the agents: state, resources, when they were last heard of."""
        return list(self._value("GET", rest.AGENTS)["data"])

    def agent(self, name: str) -> dict[str, Any]:
        """Return one agent."""
        return dict(self._value("GET", rest.agent(name)))

    def enroll_token(
        self, name: str | None = None, *, lifetime_s: float | None = None
    ) -> dict[str, Any]:
        """Make a token by which one agent can enroll, once; return ``{token, ...}``."""
        wanted = {"name": name, "lifetime_s": lifetime_s}
        given = {key: value for key, value in wanted.items() if value is not None}
        return dict(self._value("POST", rest.ENROLL_TOKENS, json=given))

    def drain_agent(self, name: str) -> dict[str, Any]:
        """Give an agent no more work; it finishes what it has."""
        return dict(self._value("POST", f"{rest.agent(name)}/drain"))

    def resume_agent(self, name: str) -> dict[str, Any]:
        """Give work again to an agent that was drained or paused."""
        return dict(self._value("POST", f"{rest.agent(name)}/resume"))

    def remove_agent(self, name: str, *, force: bool = False) -> dict[str, Any]:
        """
        Forget an agent and take its token back.

        Raises
        ------
        Conflict
            If it still carries out runs; with *force* they are lost: another agent gets those that
            may be tried again, and the others have failed.
        """
        params = {"force": "true"} if force else {}
        return dict(self._value("DELETE", rest.agent(name), params=params))
