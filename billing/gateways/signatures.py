"""Pure. Signatures as the Standard Webhooks write them: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

The library signs; checking is done here, because the library's own reads the machine's clock and raises whatever
comes when a header is broken. Several secrets may be in use while one replaces another: the first signs, all are good.
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from standardwebhooks import Webhook

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE = timedelta(minutes=5)
SECONDS = re.compile(r"[0-9]{1,11}")
MOST_SIGNATURES = 16
# What the specification asks of a secret.
FEWEST_BYTES = 24


class Wrong(Exception):
    """The signature is missing, late or not ours; the text says which."""


def sign(body: bytes, *, secret: str, id: str, now: datetime) -> dict[str, str]:
    """The headers that go with a body."""
    moment = now.astimezone(UTC)
    signature = Webhook(secret).sign(id, moment, body.decode())
    return {ID: id, TIMESTAMP: str(int(moment.timestamp())), SIGNATURE: signature}


def check(body: bytes, headers: Mapping[str, str], *, secrets: Sequence[str], now: datetime) -> str:
    """The message's id. Raises Wrong."""
    given = {name.lower(): value for name, value in headers.items()}
    id, timestamp, signatures = (given.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (id and timestamp and signatures):
        raise Wrong(f"The headers {ID}, {TIMESTAMP} and {SIGNATURE} are needed.")
    if not SECONDS.fullmatch(timestamp):
        raise Wrong(f"{TIMESTAMP} must be a number of seconds.")
    moment = datetime.fromtimestamp(int(timestamp), UTC)
    if abs(now - moment) > TOLERANCE:
        raise Wrong(f"{TIMESTAMP} is more than five minutes away from now.")
    if not any(_matches(body, signatures, secret, id, moment) for secret in secrets):
        raise Wrong("No signature matches.")
    return id


def _matches(body: bytes, signatures: str, secret: str, id: str, moment: datetime) -> bool:
    try:
        wanted = sign(body, secret=secret, id=id, now=moment)[SIGNATURE].encode()
    except UnicodeDecodeError:
        return False
    return any(hmac.compare_digest(wanted, each.encode()) for each in signatures.split(" ")[:MOST_SIGNATURES])


def is_secret(text: str) -> bool:
    """Whether it can sign: base64 of at least 24 bytes, with or without `whsec_` before it."""
    try:
        raw = binascii.a2b_base64(text.removeprefix("whsec_") + "==", strict_mode=False)
    except ValueError:
        return False
    return len(raw) >= FEWEST_BYTES
