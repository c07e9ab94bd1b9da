"""Pure. Messages as they are asked for, packed, and found again.

A *pack* is what one sender tells one recipient (or everyone) in one go: its messages share everything but type,
payload and correlation id, so they travel, wait and are counted together. A message's id is its pack's id with its
place in the last three hex digits, so pack and place are known from the id alone. A *mask* says of each place
whether it is meant: "1101".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

MAX_PAYLOAD_BYTES = 256 * 1024
PACK_MOST = 1000
PACK_BYTES = 256 * 1024
PREFIX = 33  # characters of an id before the place
RUNS = re.compile("1+")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class PayloadTooLarge(Exception):
    """Raised for a message beyond the size that inboxes take."""

    code = "payload_too_large"
    extras = {"limit": MAX_PAYLOAD_BYTES}

    def __init__(self) -> None:
        super().__init__(f"A message's payload may have {MAX_PAYLOAD_BYTES:,} bytes.")


class UnfitPayload(Exception):
    """Raised for a payload that JSON or the database cannot keep."""

    code = "validation_error"

    def __init__(self, why: str) -> None:
        self.extras = {"errors": {"payload": [why]}}
        super().__init__(why)


class Draft(NamedTuple):
    """A message to be sent. `recipient` None is a broadcast; with `reply_timeout_seconds` it asks for a reply,
    which is kept for a waiting caller when `awaited`; `in_reply_to` is the message it answers by itself."""

    sender: UUID
    recipient: UUID | None
    type: str = "custom"
    payload: Any = None
    priority: int = 5
    ttl_seconds: int = 300
    correlation_id: str = ""
    message_id: str = ""
    durable: bool = False
    reply_timeout_seconds: float | None = None
    awaited: bool = False
    in_reply_to: str = ""

    @property
    def goes_alone(self) -> bool:
        """Whether it needs a look by itself: to be sent once, to ask, or to answer."""
        return bool(self.message_id or self.correlation_id or self.reply_timeout_seconds)

    def is_alike(self, other: Draft) -> bool:
        """Surely of the same pack, if that takes more."""
        same = self.sender is other.sender and self.recipient is other.recipient and self.priority == other.priority
        return same and not other.goes_alone


class Receipt(NamedTuple):
    """What was accepted: for a broadcast `path` is empty and `hops` the longest way."""

    pack_id: str
    place: int
    path: list[str]
    hops: int
    recipients: int
    expires_at: datetime
    correlation_id: str = ""

    @property
    def text_id(self) -> str:
        return message_id(self.pack_id, self.place)

    @property
    def id(self) -> UUID:
        return UUID(self.text_id)

    def as_text(self) -> str:
        """To be answered again when the same message is sent again."""
        return json.dumps([*self[:5], milliseconds(self.expires_at), self.correlation_id])

    @classmethod
    def from_text(cls, text: str | bytes) -> Receipt:
        pack_id, place, path, hops, recipients, expires, correlation_id = json.loads(text)
        return cls(pack_id, place, path, hops, recipients, moment(expires), correlation_id)


class Offer(NamedTuple):
    """A pack as an agent finds it: what its messages share. `to` is set where this agent only passes them on."""

    pack_id: str
    header: dict[str, Any]
    path: list[str]
    expires_at: datetime
    delivery_count: int
    to: str


class Item(NamedTuple):
    """A message as an agent finds it in its inbox."""

    offer: Offer
    place: int
    body: list[Any]

    @property
    def id(self) -> str:
        return message_id(self.offer.pack_id, self.place)

    @property
    def message(self) -> dict[str, Any]:
        kind, payload, correlation_id = self.body
        said = {"type": kind, "payload": payload, "correlation_id": correlation_id}
        return {"id": self.id, **self.offer.header, **said}

    @property
    def path(self) -> list[str]:
        return self.offer.path

    @property
    def hops(self) -> int:
        return max(len(self.offer.path) - 1, 0)

    @property
    def expires_at(self) -> datetime:
        return self.offer.expires_at

    @property
    def delivery_count(self) -> int:
        return self.offer.delivery_count

    @property
    def relay_to(self) -> str | None:
        """Whom acknowledging it passes it on to; None where it is for this agent."""
        return self.offer.to or None


@dataclass(slots=True)
class Pack:
    """Drafts that go together: their places in what was asked, and what each says."""

    draft: Draft
    places: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, place: int, body: bytes) -> None:
        self.places.append(place)
        self.bodies.append(body)
        self.size += len(body)

    def takes(self, draft: Draft, body: bytes) -> bool:
        fits = len(self.places) < PACK_MOST and self.size + len(body) <= PACK_BYTES
        return fits and draft.ttl_seconds == self.draft.ttl_seconds

    def split(self, most: int) -> tuple[Pack, list[int]]:
        """The first so many by themselves, and the places of the others."""
        kept = Pack(self.draft, self.places[:most], self.bodies[:most])
        return kept, self.places[most:]


def packed(drafts: Iterable[tuple[int, Draft, bytes]]) -> list[Pack]:
    """Drafts with their places and bodies, packed so that no two of one pair change their order.

    Every sender has packs open for some recipients, or one for everyone, but never both: a broadcast keeps its
    place among the messages to each of its recipients.
    """
    packs: list[Pack] = []
    open_packs: dict[UUID, dict[tuple[UUID | None, int], Pack]] = {}
    last: Pack | None = None
    for place, draft, body in drafts:
        # Most come in runs: then nothing need be looked up.
        if last is not None and last.draft.is_alike(draft) and last.takes(draft, body):
            last.add(place, body)
            continue
        mine = open_packs.setdefault(draft.sender, {})
        key = (draft.recipient, draft.priority)
        pack = mine.get(key)
        if pack is None or draft.goes_alone or not pack.takes(draft, body):
            if draft.goes_alone or (draft.recipient is None) != ((None, draft.priority) in mine):
                mine.clear()
            pack = Pack(draft)
            packs.append(pack)
            if not draft.goes_alone:
                mine[key] = pack
        pack.add(place, body)
        last = None if draft.goes_alone else pack
    return packs


def body_of(draft: Draft) -> bytes:
    """What a message says, as one line of JSON. Raises PayloadTooLarge or UnfitPayload."""
    try:
        body = _encode([draft.type, draft.payload, draft.correlation_id]).encode()
    except UnicodeEncodeError:
        raise UnfitPayload("The text holds half a character, which stands for nothing by itself.") from None
    except (ValueError, RecursionError) as wrong:
        raise UnfitPayload(f"The payload is not JSON: {str(wrong)[:200]}.") from None
    if b"\\u0000" in body:
        raise UnfitPayload("The character U+0000 cannot be kept.")
    if len(body) > MAX_PAYLOAD_BYTES and len(_encode(draft.payload).encode()) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge
    return body


def items(offer: Offer, first: int, bodies: bytes, ended: bytes) -> Iterator[Item]:
    """The messages of an offered pack that did not end yet. `ended` is a mask, or empty."""
    found = json.loads(b"[" + bodies.replace(b"\n", b",") + b"]")
    for index, body in enumerate(found):
        if not ended or ended[index : index + 1] == b"0":
            yield Item(offer, first + index, body)


def message_id(pack_id: str, place: int) -> str:
    return f"{pack_id}{place:03x}"


def masks(message_ids: Iterable[UUID | str]) -> dict[str, str]:
    """Which places of which packs are meant."""
    found: dict[str, list[int]] = {}
    for each in message_ids:
        text = str(each)
        found.setdefault(text[:PREFIX], []).append(int(text[PREFIX:], 16))
    return {pack_id: mask(places) for pack_id, places in found.items()}


def mask(places: Sequence[int]) -> str:
    marks = bytearray(b"0" * (max(places) + 1))
    for place in places:
        marks[place] = 49  # "1"
    return marks.decode()


def runs(first: int, meant: str) -> Iterator[tuple[int, int]]:
    """First and last place of each run that a mask, which begins at `first`, means."""
    for run in RUNS.finditer(meant):
        yield first + run.start(), first + run.end() - 1


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def moment(at: int | str | bytes) -> datetime:
    return datetime.fromtimestamp(int(at) / 1000, tz=UTC)
