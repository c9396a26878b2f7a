"""
The server's core, put together: open a data folder and get its services.

Promises: `build` brings the database to the present tables, makes the signing key and the admin
token at the first start (mode 0600), and starts no thread that outlives `close`. All services are
synchronous and thread-safe; several `Services` can live in one process.

Layout of the data folder: ``physicsrunner.db``, ``secret.key``, ``encryption.key``,
``admin.token``, ``models/``, ``inputs/``, ``simulations/`` (the spool), ``scratch/`` (uploads on
their way; emptied at start).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from physicsrunner.core.lease import LeaseTerms
from physicsrunner.service.access import ADMIN_FILE, AccessService
from physicsrunner.service.accounts import AccountService
from physicsrunner.service.audit import AuditService
from physicsrunner.service.backup import DATABASE, save_before_upgrade
from physicsrunner.service.cases import CaseService
from physicsrunner.service.events import EventService
from physicsrunner.service.feed import Feed
from physicsrunner.service.files import FileService
from physicsrunner.service.fleet import FleetService
from physicsrunner.service.leases import LeaseService
from physicsrunner.service.masks import Masks
from physicsrunner.service.models import ModelService
from physicsrunner.service.options import ServerOptions
from physicsrunner.service.outbox import OutboxService
from physicsrunner.service.packaged import PackagedModels
from physicsrunner.service.queue import QueueService
from physicsrunner.service.queueing import open_queue
from physicsrunner.service.removal import Removal
from physicsrunner.service.retention import Retention
from physicsrunner.service.runs import RunService
from physicsrunner.service.secrets import Safe, load_secret, write_private
from physicsrunner.service.studies import StudyService
from physicsrunner.service.tickets import TicketService
from physicsrunner.service.unused import UnusedInputs
from physicsrunner.store.base import Store
from physicsrunner.store.blobs import FolderBlobs
from physicsrunner.store.database import sqlite_file
from physicsrunner.store.memory import MemoryStore
from physicsrunner.store.spool import Spool
from physicsrunner.store.sql import SqlStore

_LOG = logging.getLogger(__name__)
ADMIN: Final = "admin"


@dataclass(frozen=True)
class Services:
    """One method a use case; see each service."""

    access: AccessService
    models: ModelService
    packaged: PackagedModels  #: models that settings name
    cases: CaseService  #: what models are run with again and again
    runs: RunService
    leases: LeaseService
    fleet: FleetService
    queue: QueueService
    removal: Removal  #: deletes ended runs with their files
    retention: Retention  #: decides which, where the operator wants that
    files: FileService
    tickets: TicketService  #: files for those who have no token
    studies: StudyService
    accounts: AccountService
    audit: AuditService
    events: EventService
    outbox: OutboxService  #: webhooks, and how far others have the log
    safe: Safe  #: encrypts what must not lie open in the database
    feed: Feed
    data: Path  #: the data folder
    scratch: Path  #: for uploads on their way; on the same file system as what they become
    terms: LeaseTerms
    options: ServerOptions
    _store: Store
    _pool: ThreadPoolExecutor

    @property
    def admin_token_file(self) -> Path:
        """Where the admin's token lies."""
        return self.data / ADMIN_FILE

    def close(self) -> None:
        """Let go of the database and of all threads."""
        self._pool.shutdown(wait=True)
        self._store.close()


def open_store(data: Path, url: str | None) -> Store:
    """Return the store of *url*; None: SQLite in the data folder; ``memory:`` keeps nothing."""
    if url == "memory:":
        return MemoryStore()
    file = sqlite_file(url) if url else data / DATABASE
    saved = None if file is None else save_before_upgrade(file)
    if saved is not None:
        _LOG.info("the tables are brought up to date; the database as it was: %s", saved)
    return SqlStore(url or f"sqlite:///{data / DATABASE}")


def build(
    data: Path,
    *,
    url: str | None = None,
    now: Callable[[], float],
    terms: LeaseTerms | None = None,
    options: ServerOptions | None = None,
) -> Services:
    """
    Open the data folder, making what is missing, and return its services.

    Parameters
    ----------
    url
        The database, as SQLAlchemy writes it. None: that of the options, else SQLite in the data
        folder.
    now
        The clock: POSIX seconds.
    terms
        How long leases and tokens last; None: as the options say.
    options
        What the operator decided.
    """
    options = options or ServerOptions()
    data = data.absolute()
    scratch = _scratch(data)
    store = open_store(data, url or options.database)
    try:
        services = _put_together(data, scratch, store, now, terms or options.terms, options)
        store.listen(services.feed.publish)
        _keep_admin(services.access, services.admin_token_file)
        for door, cap in options.door_caps.items():
            services.studies.keep_of_door(door, cap)
        return services
    except BaseException:
        store.close()
        raise


def _put_together(
    data: Path,
    scratch: Path,
    store: Store,
    now: Callable[[], float],
    terms: LeaseTerms,
    options: ServerOptions,
) -> Services:
    feed = Feed()
    key = load_secret(data)
    access = AccessService(store, key, now=now, terms=terms)
    pool = _hashing_threads()
    spool = Spool(data / "simulations", pool)
    safe = Safe(data)
    files = FileService(store, access, spool, feed, Masks(store, safe), now=now)
    models = ModelService(store, FolderBlobs(data / "models", ".zip"), access, now=now)
    studies = StudyService(store, access, now=now)
    queue = open_queue(
        store,
        access,
        models,
        studies,
        files,
        feed,
        safe,
        spool=spool,
        blobs=FolderBlobs(data / "inputs"),
        data=data,
        now=now,
        terms=terms,
        options=options,
    )
    files.on_first = queue.inputs.ensure_beside
    unused = UnusedInputs(store, queue.inputs, options.inputs_days, now=now)
    return Services(
        access,
        models,
        PackagedModels(store, models, access, scratch),
        CaseService(models, access, scratch),
        queue.runs,
        queue.leases,
        queue.fleet,
        queue.queue,
        queue.removal,
        Retention(store, queue.removal, unused, options),
        files,
        TicketService(access, files, queue.runs, models, key, now=now),
        studies,
        AccountService(access, now=now),
        AuditService(store, access),
        EventService(store, access, queue.runs),
        OutboxService(store, safe, now=now, private=options.webhook_private),
        safe,
        feed,
        data,
        scratch,
        terms,
        options,
        store,
        pool,
    )


def _hashing_threads() -> ThreadPoolExecutor:
    """Return some threads: hashing lets go of the interpreter's lock, so they use all cores."""
    return ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="digest")


def _scratch(data: Path) -> Path:
    """Make the data folder and, in it, the empty folder of uploads on their way; return that."""
    scratch = data / "scratch"
    data.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(exist_ok=True)
    return scratch


def _keep_admin(access: AccessService, file: Path) -> None:
    """Write the admin's token at the first start; take the one that is there at the others."""
    if file.exists():
        access.tokens.adopt(file.read_text().strip())
    else:
        write_private(file, access.user_token(ADMIN, "admin"), replace=False)
