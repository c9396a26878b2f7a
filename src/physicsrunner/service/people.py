"""People and projects as they are shown. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """A person, as others see them."""

    name: str
    role: str | None
    disabled: bool
    locked: bool
    has_password: bool
    created_at: float
    last_login: float | None = None


@dataclass(frozen=True)
class Project:
    """A project, and the caller's role in it."""

    id: str
    name: str
    created_by: str
    created_at: float
    max_concurrent_runs: int | None = None
    role: str | None = None  #: of the one who asks; None: a member of it they are not
