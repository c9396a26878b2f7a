"""
The services of the queue, put together: runs, leases, agents, and how the queue stands.

Promises: deletions that a kill interrupted are finished here, before anybody asks for anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.service.access import AccessService
from physicsrunner.service.clock import QueueClock
from physicsrunner.service.feed import Feed
from physicsrunner.service.fleet import Breaker, FleetService
from physicsrunner.service.grants import Grants
from physicsrunner.service.inputs import Inputs
from physicsrunner.service.leases import LeaseService
from physicsrunner.service.making import Maker
from physicsrunner.service.models import ModelService
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.patience import Patience
from physicsrunner.service.presence import Presence
from physicsrunner.service.progress import ProgressBook
from physicsrunner.service.queue import QueueService
from physicsrunner.service.reasons import Reasons
from physicsrunner.service.received import NATS, Receivers
from physicsrunner.service.removal import Removal
from physicsrunner.service.reporting import Reporting, Seals
from physicsrunner.service.runs import RunService
from physicsrunner.service.secrets import Safe
from physicsrunner.service.steering import Steering
from physicsrunner.service.studies import StudyService
from physicsrunner.store.base import Store
from physicsrunner.store.blobs import BlobStore
from physicsrunner.store.spool import Spool


@dataclass(frozen=True)
class Queue:
    """The services that share the table of runs."""

    runs: RunService
    leases: LeaseService
    fleet: FleetService
    queue: QueueService
    removal: Removal
    inputs: Inputs


def open_queue(
    store: Store,
    access: AccessService,
    models: ModelService,
    studies: StudyService,
    seals: Seals,
    feed: Feed,
    safe: Safe,
    *,
    spool: Spool,
    blobs: BlobStore,
    data: Path,
    now: Callable[[], float],
    terms: LeaseTerms,
    options: ServerOptions,
) -> Queue:
    """Return the services of the queue; what was being deleted is gone."""
    cap = options.max_concurrent_runs
    book, presence, breaker = ProgressBook(), Presence(store), Breaker(store, now)
    inputs = Inputs(store, access, blobs, spool, now=now)
    grants = Grants(store, access, safe, terms, on_grant=inputs.remember)
    reporting = Reporting(
        store, access, feed, book, seals=seals, now=now, terms=terms, started=breaker.note
    )
    reasons = Reasons(store, now=now, terms=terms, max_concurrent_runs=cap, leaves=presence.leaves)
    leases = LeaseService(
        store,
        access,
        grants,
        reporting,
        QueueClock(store, book, now=now, terms=terms),
        presence,
        Patience(store, reasons.held_back),
        now=now,
        terms=terms,
        max_concurrent_runs=cap,
    )
    fleet = FleetService(store, access, leases, presence, breaker, now=now, terms=terms)
    maker = Maker(store, access, models, studies, safe, now=now)
    removal = _removal(store, spool, data, now, options)
    steering = Steering(store, access, maker, removal, now=now)
    runs = RunService(
        store,
        access,
        maker,
        steering,
        leases,
        grants,
        book,
        inputs,
        reasons,
        now=now,
        terms=terms,
    )
    queue = QueueService(store, access, fleet, reasons, now=now, max_concurrent_runs=cap)
    return Queue(runs, leases, fleet, queue, removal, inputs)


def _removal(
    store: Store, spool: Spool, data: Path, now: Callable[[], float], options: ServerOptions
) -> Removal:
    """Return what deletes runs, having finished what a kill interrupted."""
    receivers = Receivers(store, (NATS,) if options.nats else (), now=now)
    removal = Removal(store, spool, data, receivers, now=now)
    removal.sweep()
    return removal
