"""
One publisher and one listener for each kind of event, on NATS JetStream.

Promises of a `Listener`: it is durable (it gets what came while it was away, in order); a message
is acknowledged when `on_message` has returned, and comes again, later and later, when that raised;
while `on_message` works nobody else gets the message; what was handled once in this process is not
handled again. When NATS is away it waits. Several processes with the same durable name share the
messages.

nats-py is loaded when a publisher or a listener is made, never on import.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import uuid
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from physicsrunner.errors import MissingExtra, UsageError
from physicsrunner.wire import live

DUPLICATES_S: Final = 600.0  #: a message id that comes again within it is kept once
FETCH_S: Final = 5.0
TOGETHER: Final = 16  #: messages fetched at once
LONGEST_S: Final = 60.0  #: before a message that was not handled comes again
_HANDLED: Final = 10_000  # message ids remembered
_AGAIN_S: Final = 0.5

_LOG = logging.getLogger(__name__)


def needs_nats(what: str) -> None:
    """Raise `MissingExtra` where nats-py is not installed."""
    if importlib.util.find_spec("nats") is None:
        raise MissingExtra(f"{what} needs pip install 'physicsrunner[events]'")


async def ensure_stream(streams: Any, subjects: Iterable[str]) -> None:
    """
    Have the stream `wire.live.STREAM` there, and have it take *subjects*.

    Parameters
    ----------
    streams
        A JetStream context of nats-py.
    """
    from nats.js.api import RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import BadRequestError, NotFoundError

    wanted = set(subjects)
    try:
        known = (await streams.stream_info(live.STREAM)).config
    except NotFoundError:
        config = StreamConfig(
            name=live.STREAM,
            subjects=sorted(wanted | {f"{prefix}.>" for prefix in live.STREAM_PREFIXES}),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            duplicate_window=DUPLICATES_S,
        )
        try:
            await streams.add_stream(config)
            return
        except BadRequestError:
            # Somebody else was there first.
            known = (await streams.stream_info(live.STREAM)).config
    there = set(known.subjects or ())
    if not wanted <= there:
        known.subjects = sorted(there | wanted)  # whatever else an operator has set stays
        await streams.update_stream(known)


class Publisher:
    """
    Publishes one kind of event.

    Parameters
    ----------
    nats_client
        A connected client of nats-py.
    """

    kind: ClassVar[str]  #: the event's type, such as simulation/started

    def __init__(self, nats_client: Any) -> None:
        needs_nats(type(self).__name__)
        self.client = nats_client

    @property
    def subject(self) -> str:
        """The NATS subject."""
        return live.subject_of(self.kind)

    async def publish(self, data: Any, *, message_id: str | None = None) -> None:
        """
        Publish *data* (JSON values); returns when the stream has stored it.

        Parameters
        ----------
        message_id
            Makes a repeat harmless: within ten minutes the same id is stored once.
        """
        from nats.js.errors import NoStreamResponseError

        payload = json.dumps(data, separators=(",", ":")).encode()
        headers = {live.MESSAGE_ID: message_id or uuid.uuid4().hex}
        streams = self.client.jetstream()
        try:
            await streams.publish(self.subject, payload, headers=headers)
        except NoStreamResponseError:
            await ensure_stream(streams, [_all_of(self.kind)])
            await streams.publish(self.subject, payload, headers=headers)


class Listener(ABC):
    """
    Hears one kind of event; subclass it with `on_message`.

    Parameters
    ----------
    nats_client
        A connected client of nats-py.
    durable
        The name under which NATS remembers what was handled; default: `queue_group_name`, else the
        name of the class. Give each program one of its own.
    """

    kind: ClassVar[str]  #: the event's type, such as simulation/started
    queue_group_name: ClassVar[str | None] = None
    ack_wait: ClassVar[float] = 30.0  #: seconds after which a handler that died is given up
    deliver: ClassVar[str] = "all"  #: where a new name begins: all that is kept, or new

    def __init__(self, nats_client: Any, *, durable: str | None = None) -> None:
        needs_nats(type(self).__name__)
        self.client = nats_client
        self.durable = durable or self.queue_group_name or type(self).__name__
        if not self.durable or any(c in " .*>/\\" or not c.isprintable() for c in self.durable):
            raise UsageError(f"{self.durable!r} is no durable name: no spaces, . * > / in it")
        self._task: asyncio.Task[None] | None = None
        self._handled: OrderedDict[str, None] = OrderedDict()

    @property
    def subject(self) -> str:
        """The NATS subject, or the pattern of subjects."""
        return live.subject_of(self.kind)

    @abstractmethod
    async def on_message(self, data: Any, msg: Any) -> None:
        """
        Handle one message; when this raises, it comes again.

        Parameters
        ----------
        data
            What was published, from JSON; of the server's own events the envelope.
        msg
            The message of nats-py. It is acknowledged for you.
        """

    async def listen(self) -> None:
        """Begin; returns when NATS knows of us. Messages are handled until `close`."""
        if self._task is not None:
            return
        subscription = await self._subscribe()
        self._task = asyncio.create_task(self._run(subscription), name=f"listener {self.durable}")

    async def wait(self) -> None:
        """Wait until the listener has ended: by `close`, or because its client was closed."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def close(self) -> None:
        """End; what is being handled is given back. Again is nothing."""
        if self._task is not None:
            self._task.cancel()
            await self.wait()
            self._task = None

    async def _subscribe(self) -> Any:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
        from nats.js.errors import NotFoundError

        streams = self.client.jetstream()
        await ensure_stream(streams, [_all_of(self.kind)])
        try:
            known = (await streams.consumer_info(live.STREAM, self.durable)).config
        except NotFoundError:
            new = DeliverPolicy.NEW if self.deliver == "new" else DeliverPolicy.ALL
            config = ConsumerConfig(
                durable_name=self.durable,
                filter_subject=self.subject,
                deliver_policy=new,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self.ack_wait,
            )
            await streams.add_consumer(live.STREAM, config)
        else:
            if known.filter_subject != self.subject:
                raise UsageError(
                    f"the durable name {self.durable} hears {known.filter_subject} already; "
                    f"give the listener of {self.subject} another one"
                )
        return await streams.pull_subscribe_bind(durable=self.durable, stream=live.STREAM)

    async def _run(self, subscription: Any) -> None:
        try:
            await self._hear(subscription)
        finally:
            # We have asked for messages: NATS is not to give the next ones to nobody.
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    async def _hear(self, subscription: Any) -> None:
        said = False
        while not self.client.is_closed:
            try:
                messages = await subscription.fetch(TOGETHER, timeout=FETCH_S)
                said = False
            except asyncio.TimeoutError:
                continue
            except Exception as error:
                if not said:
                    _LOG.warning("%s waits for NATS: %r", self.durable, error)
                said = True
                await asyncio.sleep(_AGAIN_S)
                continue
            await self._handle_all(messages)

    async def _handle_all(self, messages: Sequence[Any]) -> None:
        waiting = list(messages)
        keeper = asyncio.create_task(self._keep(waiting))
        try:
            while waiting:
                await self._handle(waiting[0])
                del waiting[0]
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            for message in waiting:  # cancelled half way: somebody else may have them
                with contextlib.suppress(Exception):
                    if self._was_handled(message):  # cancelled before it was acknowledged
                        await message.ack()
                    else:
                        await message.nak()

    def _was_handled(self, message: Any) -> bool:
        return (message.headers or {}).get(live.MESSAGE_ID) in self._handled

    async def _keep(self, waiting: Sequence[Any]) -> None:
        """Tell NATS now and then that we are still at it."""
        while True:
            await asyncio.sleep(self.ack_wait / 3)
            for message in list(waiting):
                with contextlib.suppress(Exception):
                    await message.in_progress()

    async def _handle(self, message: Any) -> None:
        number = (message.headers or {}).get(live.MESSAGE_ID)
        if number is None or number not in self._handled:
            try:
                await self.on_message(_read(message.data), message)
            except Exception:
                tries = message.metadata.num_delivered
                wait = min(LONGEST_S, 2.0 ** min(tries - 1, 10))
                _LOG.exception("%s did not handle a message; again in %g s", self.durable, wait)
                with contextlib.suppress(Exception):
                    await message.nak(delay=wait)
                return
            if number is not None:
                self._handled[number] = None
                if len(self._handled) > _HANDLED:
                    self._handled.popitem(last=False)
        with contextlib.suppress(Exception):
            await message.ack()  # lost: it comes again, and was handled


def _all_of(kind: str) -> str:
    return f"{kind.partition('/')[0]}.>"


def _read(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
