"""
What an operator decides about one server: every setting that its services read.

Promises: plain values, checked by whoever made them (`physicsrunner.config`); without any, the
server keeps everything, limits nothing, trusts no proxy and tells nobody. A ``repr`` shows neither
the password of a database nor that of a NATS server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from physicsrunner.core.lease import LeaseTerms

DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Keep:
    """Which ended runs stay: those that ended *days* ago or later, the newest *runs* of them."""

    days: float | None = None  #: None: however old
    runs: int | None = None  #: None: however many

    @property
    def everything(self) -> bool:
        """Whether nothing is ever removed."""
        return self.days is None and self.runs is None

    def before(self, now: float) -> float | None:
        """Return the time before which a run must have ended to be removed by its age."""
        return None if self.days is None else now - self.days * DAY_S


#: Without it no main.py that was written for the published package works.
DEFAULT_DOORS: Final = ("physicsworks",)

#: Doors whose own documents promise how long they keep their runs.
DOOR_KEEP: Final[Mapping[str, Keep]] = MappingProxyType({"ath": Keep(days=30, runs=1000)})


@dataclass(frozen=True)
class ServerOptions:
    """Decisions of the operator; the defaults are those of a server without any."""

    database: str | None = field(default=None, repr=False)  #: a URL; None: SQLite in the data
    max_concurrent_runs: int | None = None  #: of the whole server
    keep: Keep = Keep()
    inputs_days: float | None = None  #: since an input was sent that no run names; None: for ever
    audit_days: float | None = None  #: events that are the audit's alone; None: for ever
    door_keep: Mapping[str, Keep] = field(default_factory=lambda: DOOR_KEEP)
    lease_s: float = LeaseTerms.lease_s
    grace_s: float = LeaseTerms.grace_s
    nats: str | None = field(default=None, repr=False)  #: URL of a NATS server
    webhook_private: bool = False  #: whether webhooks may lead to addresses that are not public
    trusted_proxies: tuple[str, ...] = ()  #: addresses and networks
    doors: tuple[str, ...] = DEFAULT_DOORS  #: foreign wires that are open
    door_user: str | None = None  #: as whom doors act on this machine without a token; None: nobody
    shakescenario_port: int | None = None  #: 0: any free one; None: 6000 if it is free
    shakescenario_host: str | None = None  #: to listen on; None: as for HTTP
    shakescenario_folder: Path | None = None  #: where each job has a folder; None: nowhere
    shakescenario_model: str = "shake-scenario"  #: name or id of a model
    ath_model: str = "horn-acoustics"
    ath_max_concurrent_runs: int = 1
    architech_model: str | None = None
    architech_design_url: str | None = field(default=None, repr=False)  #: of the design service
    architech_mapping: Path | None = None  #: from a design to parameters
    cors_origins: tuple[str, ...] = ()  #: pages of elsewhere that may call the doors
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def local_user(self) -> str | None:
        """As whom doors act for who brings no token; nobody behind a proxy, who looks local."""
        return None if self.trusted_proxies else self.door_user

    @property
    def door_caps(self) -> Mapping[str, int]:
        """How many runs that came by a door may run at once, for open doors that have a limit."""
        return {"ath": self.ath_max_concurrent_runs} if "ath" in self.doors else {}

    @property
    def terms(self) -> LeaseTerms:
        """How long leases last; they are renewed four times in that time."""
        return LeaseTerms(lease_s=self.lease_s, renew_s=self.lease_s / 4, grace_s=self.grace_s)
