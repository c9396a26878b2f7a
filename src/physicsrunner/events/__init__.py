"""
Publishers and listeners of events over NATS JetStream, and checking what a webhook brings.

For each event of a run there is a pair, named ``Simulation...`` and, the same, ``Job...``::

    from physicsrunner.events import JobCreatedListener, JobCreatedPublisher

    publisher = JobCreatedPublisher(nats_client)
    await publisher.publish({"id": "job_123", "status": "created"})

    class MyJobListener(JobCreatedListener):
        async def on_message(self, data, msg):
            print(f"Job created: {data}")

    listener = MyJobListener(nats_client)
    await listener.listen()

*nats_client* is a connected client of nats-py. A server with the setting ``nats`` publishes its own
events on the same subjects; their data is the envelope ``{id, type, run, attempt, project, time,
data}``. Importing this package loads nothing heavy; nats-py is loaded when it is used.
"""

from __future__ import annotations

from physicsrunner.events import listeners, publishers
from physicsrunner.events.base import Listener, Publisher
from physicsrunner.events.listeners import *  # noqa: F403 - each named in `listeners.__all__`
from physicsrunner.events.publishers import *  # noqa: F403 - each named in `publishers.__all__`
from physicsrunner.wire.webhooks import verify as verify_webhook

__all__ = ["Listener", "Publisher", "verify_webhook", *listeners.__all__, *publishers.__all__]
