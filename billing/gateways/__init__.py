"""What a payment gateway is: it takes money, gives it back, and says what it did when asked again.

create -> requires_action -> processing -> authorized -> succeeded | failed | cancelled

`simulated` plays a gateway without money, `http` speaks to the one at PAYMENT_GATEWAY_URL, `stripe` to Stripe. Each
passes the same contract tests; `bank` waits for statements. Every call carries a key, and the same key again does
nothing twice. Whoever calls does it outside any transaction, and treats AnswerLost as not knowing: only `fetch` or a
webhook tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

# No call takes longer, so that what was sent and not answered by then is lost (payment_states.SENT_BY is longer).
DEADLINE_SECONDS = 20.0


class ChargeState(StrEnum):
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    # The money is set aside and waits to be captured.
    AUTHORIZED = "authorized"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RepaymentState(StrEnum):
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Order:
    """What to charge. `reference` is our id of the payment and its key; the customer comes back to `return_url`."""

    reference: str
    amount: int
    currency: str
    method: str
    return_url: str = ""
    description: str = ""
    capture: bool = True
    # Nobody is there whom a bank could ask.
    off_session: bool = False


@dataclass(frozen=True)
class Charge:
    """What a gateway says of a payment; amounts in minor units."""

    ref: str
    reference: str
    state: ChargeState
    amount: int
    currency: str
    captured: int = 0
    refunded: int = 0
    action_url: str = ""
    failure_code: str = ""
    failure_message: str = ""


@dataclass(frozen=True)
class Repayment:
    """What a gateway says of a refund."""

    ref: str
    state: RepaymentState
    amount: int
    failure_code: str = ""
    failure_message: str = ""


@dataclass(frozen=True)
class DisputeWord:
    """What a gateway says of a dispute; without an amount it is about all of the payment.

    Evidence for it is taken until `evidence_due_at`, once: then `has_evidence`.
    """

    ref: str
    state: str
    amount: int | None = None
    currency: str | None = None
    reason: str = ""
    evidence_due_at: datetime | None = None
    has_evidence: bool = False


@dataclass(frozen=True)
class Event:
    """What a signed webhook says. It names a payment by the gateway's ref or by our reference, perhaps by both.

    What it leaves out is empty or None.
    """

    id: str
    type: str
    ref: str
    reference: str
    state: ChargeState | None
    created_at: datetime | None = None
    amount: int | None = None
    currency: str | None = None
    failure_code: str = ""
    failure_message: str = ""
    dispute: DisputeWord | None = None
    # Another name of the payment's with the gateway.
    alias: str = ""
    # The page to give a card on that it is about, instead of a payment.
    setup: str = ""


class AnswerLost(Exception):
    """The request was sent, and no answer came, or none that can be believed: what happened is not known."""


class Refused(Exception):
    """The gateway says no, or was never reached: nothing happened."""

    def __init__(self, reason: str, sentence: str) -> None:
        self.reason = reason
        super().__init__(sentence)


class NotFound(Exception):
    """The gateway has never heard of it."""


class BadSignature(Exception):
    """A webhook that is not signed as the gateway signs, or not now."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"webhook-signature": [str(self)]}}


class Unreadable(Exception):
    """A webhook that is signed, and still says nothing that can be read."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"body": [str(self)]}}


def no_disputes() -> Refused:
    """What a gateway says whose payers cannot take a payment back."""
    return Refused("no_disputes", "Payments of this kind cannot be disputed, so there is nobody to give evidence to.")


class Gateway(Protocol):
    name: str

    def create(self, order: Order) -> Charge:
        """Raises Refused, AnswerLost. The same reference again answers the same charge."""
        ...

    def confirm(self, ref: str, *, key: str) -> Charge:
        """The customer did what was asked. Raises Refused, NotFound, AnswerLost."""
        ...

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        """Take what was authorized. Raises Refused, NotFound, AnswerLost."""
        ...

    def cancel(self, ref: str, *, key: str) -> Charge:
        """Give up a charge that took nothing yet. Raises Refused, NotFound, AnswerLost."""
        ...

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        """Give money back. Raises Refused, NotFound, AnswerLost."""
        ...

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        """What became of a charge, by the gateway's ref or ours. Raises NotFound, AnswerLost."""
        ...

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        """What became of a refund of this charge, by the key it was asked with. Raises NotFound, AnswerLost."""
        ...

    def fetch_dispute(self, ref: str) -> DisputeWord:
        """How a dispute stands. Raises Refused where nobody can dispute, NotFound, AnswerLost."""
        ...

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        """Hand in what speaks for us: texts named as evidence_texts.FIELDS. Raises Refused, NotFound, AnswerLost."""
        ...

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        """Raises BadSignature, Unreadable."""
        ...
