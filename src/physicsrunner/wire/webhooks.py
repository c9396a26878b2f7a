"""
How a webhook's request is signed, said once for the server and for receivers.

Promises: the signature covers the time and the body, so that neither can be changed and an old
request cannot be sent again later; comparing takes the same time whatever differs. Pure: the time
is an argument.

The request: ``POST`` with the event's envelope as JSON, and these headers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from physicsrunner.errors import NotAuthenticated

EVENT: Final = "X-PhysicsRunner-Event"  #: the event's type
DELIVERY: Final = "X-PhysicsRunner-Delivery"  #: the event's id: the same one may come again
WEBHOOK: Final = "X-PhysicsRunner-Webhook"  #: the webhook's id
TIMESTAMP: Final = "X-PhysicsRunner-Timestamp"  #: POSIX seconds, whole
SIGNATURE: Final = "X-PhysicsRunner-Signature"  #: ``v1=`` and 64 hexadecimal digits
TOLERANCE_S: Final = 300.0
TEST: Final = "webhook/test"  #: the type of what ``webhooks test`` sends; its id is null
_VERSION: Final = "v1="


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature: HMAC-SHA256 with *secret* over ``timestamp.body``."""
    said = b"%d.%b" % (timestamp, body)
    return _VERSION + hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_s: float = TOLERANCE_S,
) -> None:
    """
    Raise `NotAuthenticated` unless the request comes from who has *secret*, and lately.

    Parameters
    ----------
    headers
        Of the request; letter case does not matter.
    body
        The bytes as they came, before any parsing.
    now
        POSIX seconds.
    tolerance_s
        How far the sender's clock and ours may be apart, the way of the request included.
    """
    known = {name.lower(): value for name, value in headers.items()}
    stamp = known.get(TIMESTAMP.lower(), "").strip()
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        raise NotAuthenticated(f"the request has no {TIMESTAMP}")
    given = known.get(SIGNATURE.lower(), "")
    expected = sign(secret, int(stamp), body)
    # Several signatures may stand there while a secret is changed.
    good = [
        hmac.compare_digest(one.strip().encode(), expected.encode()) for one in given.split(",")
    ]
    if not any(good):
        raise NotAuthenticated("the signature is not that of the body and the shared secret")
    if abs(now - int(stamp)) > tolerance_s:
        raise NotAuthenticated(f"the request was signed over {tolerance_s:g} s ago, or ahead")
