"""Watches the addresses that were given out, and says what came to their payments. Staff decide about the rest.

    read the chain  ->  keep what came (one transaction)  ->  tell the payments (settlement, one each)

It reads between two transactions, and what it read is kept only if nobody kept a reading meanwhile. A transfer counts
when enough blocks lie on its own; until then its block may be taken back, and it is `orphaned`. A crash before the
payments are told costs a sweep: what a quote last said is written after it was heard.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum

from billing import amounts, ledger, settlement
from billing.chains import Block, NoAnswer, Transfer
from billing.gateways import ChargeState, usdc
from billing.models import ChainCursor, CoinQuote, CoinRefund, CoinTransfer, Grant, Payment, PaymentEvent
from billing.payment_states import LIVE

# A late payment is honoured for so long after its time was over.
WATCHED = timedelta(days=90)
# So much of the chain is read in one sweep.
MOST_BLOCKS = 5000
# When a block that was final was taken back, so many more than the usual depth are read again.
DEEP = 10
T = CoinTransfer.State
log = logging.getLogger(__name__)


class NotWaiting(Exception):
    """Raised when nothing of a transfer waits for staff."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.extras = {"state": state}
        super().__init__(f"This transfer is {state}; there is nothing to decide.")


class NoPayment(Exception):
    """Raised when the payment of a transfer is not known any more."""

    code = "conflict"
    extras = {"state": "unknown"}

    def __init__(self) -> None:
        super().__init__("It belongs to no payment, so nobody can be credited.")


@dataclass(frozen=True)
class Reading:
    """What the chain said of blocks `first` to `last`; up to `final` it is deep enough to stay."""

    version: int
    first: int
    last: int
    final: Block
    transfers: list[Transfer]
    is_deep: bool


def sweep(*, gateway: usdc.UsdcGateway, now: datetime) -> int:
    """Read what is new, then tell the payments; returns how many payments heard something."""
    try:
        reading = _read(gateway, now)
    except NoAnswer as silent:
        log.warning("the chain %s does not say what came: %s", gateway.chain.network, silent)
    else:
        _keep(gateway.chain.network, reading, now)
    return tell(gateway=gateway, now=now)


def _read(gateway: usdc.UsdcGateway, now: datetime) -> Reading:
    chain, terms = gateway.chain, gateway.terms
    cursor = usdc.start(chain, terms)
    is_deep = chain.block(cursor.final_block).hash != cursor.final_hash if cursor.final_block else False
    if is_deep:
        log.error("block %s of %s was final and was taken back", cursor.final_block, chain.network)
    first = max(1, cursor.final_block + 1 - (terms.confirmations * DEEP if is_deep else 0))
    head = chain.head()
    last = min(head.number, first + MOST_BLOCKS - 1)
    number = min(head.number - terms.confirmations + 1, last)
    final = chain.block(number) if number >= first else Block(cursor.final_block, cursor.final_hash, head.time)
    watched = _watched(chain.network, now)
    addresses = list(watched.values_list("address", flat=True))
    found = chain.transfers(token=terms.token, recipients=addresses, first=first, last=last) if addresses else []
    if chain.block(head.number).hash != head.hash:
        raise NoAnswer("The chain changed while it was read.")
    return Reading(cursor.version, first, last, final, found, is_deep)


def _watched(network: str, now: datetime) -> QuerySet[CoinQuote]:
    found: QuerySet[CoinQuote] = CoinQuote.objects.filter(network=network, expires_at__gt=now - WATCHED)
    return found


@transaction.atomic
def _keep(network: str, reading: Reading, now: datetime) -> None:
    cursor = ChainCursor.objects.select_for_update().get(pk=network)
    if cursor.version != reading.version:
        return  # Another sweep was quicker; the next one reads again.
    there = _keep_seen(network, reading, now)
    in_range = CoinTransfer.objects.filter(network=network, block__range=(reading.first, reading.last))
    gone = in_range.exclude(pk__in=there)
    gone.filter(state=T.SEEN).update(state=T.ORPHANED)
    gone.filter(state__in=(T.COUNTED, T.WAITING)).update(state=T.LOST, why="Its final block was taken back")
    ripe = CoinTransfer.objects.filter(network=network, state=T.SEEN, block__lte=reading.final.number)
    for transfer in ripe.select_related("quote").order_by("block", "log_index"):
        _count(transfer, is_deep=reading.is_deep)
    cursor.final_block, cursor.final_hash = reading.final.number, reading.final.hash
    cursor.version, cursor.read_at = cursor.version + 1, now
    cursor.save(update_fields=["final_block", "final_hash", "version", "read_at"])


def _keep_seen(network: str, reading: Reading, now: datetime) -> list[UUID]:
    """The rows of what is on the chain now. What costs nothing to send is not kept."""
    quotes = {quote.address: quote for quote in _watched(network, now)}
    there = []
    for each in reading.transfers:
        if each.recipient not in quotes or each.units <= 0:
            continue
        said = {"block": each.block, "quote": quotes[each.recipient], "sender": each.sender, "units": each.units}
        row, is_new = CoinTransfer.objects.get_or_create(
            network=network, tx_hash=each.tx_hash, log_index=each.log_index, defaults={**said, "seen_at": now}
        )
        there.append(row.pk)
        if not is_new:
            _see_again(row, each)
    return there


def _see_again(row: CoinTransfer, found: Transfer) -> None:
    """It may have moved to another block meanwhile."""
    row.block = found.block
    if row.state == T.ORPHANED:
        row.state = T.SEEN
    row.save(update_fields=["block", "state"])


def _count(transfer: CoinTransfer, *, is_deep: bool) -> None:
    """What the payment still lacks is counted, and the rest is for staff."""
    quote = transfer.quote
    mine = CoinTransfer.objects.filter(quote=quote, state__in=(T.COUNTED, T.LOST))
    before = mine.aggregate(sum=Sum("units"))["sum"] or 0
    missing = max(0, quote.units - before)
    transfer.surplus_units = max(0, transfer.units - missing)
    transfer.state = T.COUNTED if missing else T.WAITING
    if transfer.surplus_units:
        transfer.why = "More than was asked for" if missing else "The payment was complete already"
    if is_deep and not missing:
        transfer.why = "Perhaps the same as one whose block was taken back"
    transfer.save(update_fields=["surplus_units", "state", "why"])


def tell(*, gateway: usdc.UsdcGateway, now: datetime) -> int:
    """Tell the payments what changed of their quotes since they last heard."""
    told = 0
    quotes = _watched(gateway.chain.network, now).exclude(said=ChargeState.SUCCEEDED)
    for quote in quotes.filter(_may_have_changed(now)).distinct().order_by("created_at", "pk"):
        told += _tell(quote, now)
    return told


def _may_have_changed(now: datetime) -> Q:
    has_any = Q(transfers__state__in=(T.SEEN, T.COUNTED))
    return has_any | Q(expires_at__lte=now, said__in=("", ChargeState.PROCESSING))


def _tell(quote: CoinQuote, now: datetime) -> bool:
    charge = usdc.charge_of(quote, now=now)
    if charge.state in (ChargeState.FAILED, ChargeState.CANCELLED) and now >= quote.expires_at:
        _leave_to_staff(quote)
    if charge.state in (quote.said, ChargeState.REQUIRES_ACTION):
        return False
    with transaction.atomic():
        payment = Payment.objects.filter(pk=_id(quote.reference), gateway=usdc.NAME).first()
        if payment is not None:
            settlement.settle(payment_id=payment.pk, charge=charge, source=PaymentEvent.Source.ASKED, now=now)
        CoinQuote.objects.filter(pk=quote.pk).update(said=charge.state)
    return True


def _leave_to_staff(quote: CoinQuote) -> None:
    """Too little came in time: what did is not part of a payment any more."""
    short = quote.transfers.filter(state=T.COUNTED)
    short.update(state=T.WAITING, surplus_units=F("units"), why="Less than was asked for, in time")


def _id(reference: str) -> UUID | None:
    try:
        return UUID(reference)
    except ValueError:
        return None


def queue() -> QuerySet[CoinTransfer]:
    """What staff have to decide about, and what was lost after it had counted."""
    surplus = Q(state__in=(T.COUNTED, T.WAITING), surplus_units__gt=0)
    rows: QuerySet[CoinTransfer] = CoinTransfer.objects.filter(surplus | Q(state=T.LOST), resolution="")
    return rows.select_related("quote").order_by("seen_at", "pk")


def are_awaited() -> bool:
    """Whether anything waits for the chain to go on."""
    open_ones = Payment.objects.filter(gateway__in=("usdc", "x402"), state__in=LIVE)
    sent = CoinRefund.objects.filter(state=CoinRefund.State.SENT)
    return open_ones.exists() or CoinTransfer.objects.filter(state=T.SEEN).exists() or sent.exists()


def quote_of(payment: Payment) -> CoinQuote | None:
    """Where it is paid, if it is paid in USDC to an address."""
    if payment.gateway != usdc.NAME:
        return None
    return CoinQuote.objects.filter(reference=str(payment.pk)).first()


def payment_of(transfer: CoinTransfer) -> Payment | None:
    return Payment.objects.select_related("account").filter(pk=_id(transfer.quote.reference)).first()


@transaction.atomic
def credit(*, transfer: CoinTransfer, actor: str, now: datetime) -> CoinTransfer:
    """Give the customer the credits that the surplus buys at the quote's price. Raises NotWaiting, NoPayment."""
    payment = payment_of(transfer)
    if payment is None:
        raise NoPayment
    ledger.lock_wallet(payment.account_id)
    transfer = _waiting(transfer)
    if transfer.state == T.LOST:
        raise NotWaiting(transfer.state)
    transfer.grant = ledger.grant(
        account_id=payment.account_id,
        amount_ucr=max(1, payment.credits_ucr * transfer.surplus_units // transfer.quote.units),
        category=Grant.Category.PAID,
        source="coins",
        key=str(transfer.pk),
        now=now,
        reason=f"{amounts.usdc_text(transfer.surplus_units)} USDC that came beside what was asked for",
        actor=actor,
    )
    return _resolve(transfer, CoinTransfer.Resolution.CREDITED, actor, now)


@transaction.atomic
def dismiss(*, transfer: CoinTransfer, actor: str, now: datetime) -> CoinTransfer:
    """Nothing more is done about it here: sent back by hand, or looked into. Raises NotWaiting."""
    return _resolve(_waiting(transfer), CoinTransfer.Resolution.DISMISSED, actor, now)


def _waiting(transfer: CoinTransfer) -> CoinTransfer:
    found = CoinTransfer.objects.select_for_update(of=("self",)).select_related("quote").get(pk=transfer.pk)
    if found.resolution or not (found.state == T.LOST or found.surplus_units):
        raise NotWaiting(found.resolution or found.state)
    return found


def _resolve(transfer: CoinTransfer, how: str, actor: str, now: datetime) -> CoinTransfer:
    transfer.resolution, transfer.resolved_by, transfer.resolved_at = how, actor, now
    transfer.save(update_fields=["resolution", "resolved_by", "resolved_at", "grant"])
    return transfer
