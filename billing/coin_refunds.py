"""USDC that has to go back: what the operator has to send where, and what the chain says of it.

    pending -> sent (staff names the transaction) -> confirmed (it is on the chain, deep enough)
    pending, sent -> failed (staff gives it up; never what the chain shows)

Staff's word is not believed: a refund succeeds when the chain has the named transaction, newer than the refund, with
at least so much of the token for its recipient. Until then another transaction may be named, if the first is nowhere.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from billing import refunds
from billing.chains import ChainReader, NoAnswer, Transfer, keccak
from billing.gateways import coin_returns
from billing.models import CoinRefund, Payment, PaymentEvent, Refund

BATCH = 100
TX_HASH = re.compile(r"0x[0-9a-f]{64}")
State = CoinRefund.State
log = logging.getLogger(__name__)


class BadTransfer(Exception):
    """Raised for a transaction or an address that cannot be one."""

    code = "validation_error"

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        self.extras = {"errors": {field: [sentence]}}
        super().__init__(sentence)


class NotDue(Exception):
    """Raised when a refund does not wait for what somebody says of it."""

    code = "conflict"

    def __init__(self, sentence: str, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(sentence)


class ChainSilent(Exception):
    """Raised when the chain does not say whether something is on it."""

    code = "payment_error"

    def __init__(self) -> None:
        super().__init__("The blockchain does not answer now. Try again in a minute.")


def waiting() -> QuerySet[CoinRefund]:
    """What has to be sent, and what was and is not proven yet."""
    rows: QuerySet[CoinRefund] = CoinRefund.objects.filter(state__in=(State.PENDING, State.SENT))
    return rows.order_by("created_at", "pk")


def payment_of(back: CoinRefund) -> Payment | None:
    refund = Refund.objects.select_related("payment__account").filter(pk=UUID(back.key)).first()
    return refund.payment if refund else None


def mark_sent(
    *, refund_id: UUID, tx_hash: str, chain: ChainReader, actor: str, now: datetime, recipient: str = ""
) -> CoinRefund:
    """Staff has sent it with this transaction, perhaps to another address that the customer named.

    The same again changes nothing. Raises BadTransfer, NotDue, ChainSilent.
    """
    tx_hash, recipient = _checked(tx_hash, recipient)
    back = CoinRefund.objects.get(pk=refund_id)
    is_there = back.state == State.SENT and back.tx_hash != tx_hash and bool(_found(back, chain))
    try:
        with transaction.atomic():
            return _note_sent(back, tx_hash, recipient, actor, now, is_there=is_there)
    except IntegrityError as taken:
        raise BadTransfer("transaction", "This transaction pays another refund to the same address.") from taken


def _checked(tx_hash: str, recipient: str) -> tuple[str, str]:
    tx_hash, recipient = tx_hash.strip().lower(), recipient.strip()
    if not TX_HASH.fullmatch(tx_hash):
        raise BadTransfer("transaction", "A transaction is 0x and 64 digits from 0 to f.")
    if recipient and not keccak.is_address(recipient):
        raise BadTransfer("address", "This is no address: it has 0x and 40 digits from 0 to f, or a wrong checksum.")
    return tx_hash, recipient.lower()


def _note_sent(
    seen: CoinRefund, tx_hash: str, recipient: str, actor: str, now: datetime, *, is_there: bool
) -> CoinRefund:
    back = _locked(seen.pk)
    recipient = recipient or back.recipient
    if (back.tx_hash, back.recipient) == (tx_hash, recipient) and back.state != State.FAILED:
        return back
    if back.state not in (State.PENDING, State.SENT):
        raise NotDue(f"This refund is {back.state}.", back.state)
    if is_there or (back.state, back.tx_hash) != (seen.state, seen.tx_hash):
        raise NotDue(f"It was sent with {back.tx_hash} already. Do not send it twice.", back.state)
    back.state, back.tx_hash, back.recipient, back.why = State.SENT, tx_hash, recipient, ""
    back.sent_by, back.sent_at = actor, now
    back.save()
    return back


def fail(*, refund_id: UUID, reason: str, chain: ChainReader, actor: str, now: datetime) -> CoinRefund:
    """It cannot be sent, so the credits are given back; never what is on the chain. Raises NotDue, ChainSilent."""
    seen = CoinRefund.objects.get(pk=refund_id)
    if seen.state == State.SENT and _found(seen, chain):
        raise NotDue("The chain shows its transaction, so it was sent.", seen.state)
    with transaction.atomic():
        back = _locked(refund_id)
        if (back.state, back.tx_hash) != (seen.state, seen.tx_hash) or back.state not in (State.PENDING, State.SENT):
            raise NotDue(f"This refund is {back.state}.", back.state)
        back.state, back.why, back.sent_by, back.settled_at = State.FAILED, reason[:200], actor, now
        back.save()
        _tell(back, PaymentEvent.Source.PERSON, now)
    return back


def sweep(*, chain: ChainReader, now: datetime) -> int:
    """Look for what was sent; returns how many were confirmed."""
    sent = waiting().filter(state=State.SENT, network=chain.network)
    confirmed = 0
    for back in sent[:BATCH]:
        try:
            confirmed += look(refund_id=back.pk, chain=chain, now=now).state == State.CONFIRMED
        except ChainSilent as silent:
            log.warning("the chain %s does not say whether %s is on it: %s", chain.network, back.tx_hash, silent)
            break
    return confirmed


def look(*, refund_id: UUID, chain: ChainReader, now: datetime) -> CoinRefund:
    """Confirm what the chain has deep enough, and say what is wrong with what it has. Raises ChainSilent."""
    seen = CoinRefund.objects.get(pk=refund_id)
    if seen.state != State.SENT:
        return seen
    found, final = _found(seen, chain), _final(chain)
    units = sum(each.units for each in found if each.block <= final)
    with transaction.atomic():
        back = _locked(refund_id)
        if (back.state, back.tx_hash) != (State.SENT, seen.tx_hash):
            return back
        back.why = _why(back, found, units)
        if units >= back.units:
            back.state, back.block, back.settled_at = State.CONFIRMED, max(each.block for each in found), now
        back.save()
        if back.state == State.CONFIRMED:
            _tell(back, PaymentEvent.Source.ASKED, now)
    return back


def _why(back: CoinRefund, found: list[Transfer], deep_units: int) -> str:
    if not found:
        return "The chain does not show this transaction to this address"
    if sum(each.units for each in found) < back.units:
        return "The transaction sends less than has to go back"
    return "" if deep_units >= back.units else "On the chain, and not deep enough yet"


def _found(back: CoinRefund, chain: ChainReader) -> list[Transfer]:
    """Logs of the named transaction to the recipient, newer than the refund, each once. Raises ChainSilent."""
    try:
        last = chain.head().number
        said = chain.transfers(token=back.token, recipients=[back.recipient], first=back.first_block, last=last)
    except NoAnswer as silent:
        raise ChainSilent from silent
    mine = {each.log_index: each for each in said if each.tx_hash == back.tx_hash}
    return list(mine.values())


def _final(chain: ChainReader) -> int:
    """The newest block that is deep enough to stay. Raises ChainSilent."""
    try:
        number: int = chain.head().number - settings.USDC_CONFIRMATIONS + 1
    except NoAnswer as silent:
        raise ChainSilent from silent
    return number


def _locked(refund_id: UUID) -> CoinRefund:
    found: CoinRefund = CoinRefund.objects.select_for_update().get(pk=refund_id)
    return found


def _tell(back: CoinRefund, source: str, now: datetime) -> None:
    """The refund hears it in the same transaction. The gateway's own tests make some that nobody waits for."""
    refund = Refund.objects.filter(pk=UUID(back.key)).first()
    if refund is not None:
        refunds.hear(refund=refund, said=coin_returns.said(back), source=source, now=now)
