"""USDC sent to an address of the payment's own: the adapter's half. coins.py watches the chain and counts what came.

create -> requires_action (an address, an amount, until when) -> processing (seen) -> succeeded (deep enough) | failed

What is asked is answered from what was read of the chain, so `fetch` needs no network. No private key is ever here:
a refund is a transfer that the operator has to make (coin_returns.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from uuid import UUID

from django.db import transaction
from django.db.models import F, Sum

from billing import amounts
from billing.chains import ChainReader, NoAnswer, addresses
from billing.gateways import (
    BadSignature,
    Charge,
    ChargeState,
    DisputeWord,
    Event,
    NotFound,
    Order,
    Refused,
    Repayment,
    coin_returns,
    no_disputes,
)
from billing.models import ChainCursor, CoinQuote, CoinTransfer

NAME = "usdc"
METHOD = "usdc"
PLACES = 6
GOOD_FOR = timedelta(hours=1)
S = ChargeState
T = CoinTransfer.State


@dataclass(frozen=True)
class Terms:
    """Where and at what price: `rate` is USDC for one unit of the currency."""

    token: str
    rate: str
    confirmations: int
    xpub: str = ""
    addresses: tuple[str, ...] = ()


class UsdcGateway:
    name = NAME

    def __init__(self, chain: ChainReader, terms: Terms, *, clock: Callable[[], datetime]) -> None:
        self.chain = chain
        self.terms = terms
        self._clock = clock

    def create(self, order: Order) -> Charge:
        if order.method != METHOD:
            raise Refused("unknown_method", f"USDC is not paid with {order.method[:60]!r}.")
        before = CoinQuote.objects.filter(reference=order.reference).first()
        return _same(before or self._quote(order), order)

    def _quote(self, order: Order) -> CoinQuote:
        try:
            cursor = start(self.chain, self.terms)
        except NoAnswer as silent:
            raise Refused(
                "chain_unreachable", "The blockchain does not answer now, so no address is given."
            ) from silent
        now = self._clock()
        with transaction.atomic():
            # One at a time, so that no address is given out twice.
            cursor = ChainCursor.objects.select_for_update().get(pk=cursor.pk)
            again = CoinQuote.objects.filter(reference=order.reference).first()
            if again is not None:
                return again
            made = CoinQuote.objects.create(
                reference=order.reference,
                network=self.chain.network,
                token=self.terms.token,
                address=self._address(cursor),
                units=units_of(order.amount, order.currency, self.terms.rate),
                amount=order.amount,
                currency=order.currency,
                return_url=order.return_url,
                expires_at=now + GOOD_FOR,
                created_at=now,
            )
            ChainCursor.objects.filter(pk=cursor.pk).update(next_index=F("next_index") + 1)
        return made

    def _address(self, cursor: ChainCursor) -> str:
        if self.terms.xpub:
            return addresses.derived(self.terms.xpub, cursor.next_index)
        used = set(CoinQuote.objects.filter(network=cursor.network).values_list("address", flat=True))
        free = next((each for each in self.terms.addresses if each not in used), None)
        if free is None:
            raise Refused("no_address_left", "No address is left to be paid at. Ask the operator, or pay another way.")
        return free

    def confirm(self, ref: str, *, key: str) -> Charge:
        """There is nothing to say but what the chain says."""
        return charge_of(_found(pk=_pk(ref)))

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        found = charge_of(_found(pk=_pk(ref)))
        if found.state != S.SUCCEEDED or found.amount != amount:
            raise Refused("not_capturable", "What is sent to an address is there or not; nothing is captured.")
        return found

    def cancel(self, ref: str, *, key: str) -> Charge:
        """What came already, or is on its way, is not given up."""
        with transaction.atomic():
            quote = CoinQuote.objects.select_for_update().filter(pk=_pk(ref)).first()
            if quote is None:
                raise NotFound(ref)
            if charge_of(quote).state == S.REQUIRES_ACTION:
                quote.cancelled_at = self._clock()
                quote.save(update_fields=["cancelled_at"])
        return self._now(quote)

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        quote = _found(pk=_pk(ref))
        if charge_of(quote).state != S.SUCCEEDED:
            raise Refused("not_refundable", "Nothing was paid here that could go back.")
        # The most of it came from there; staff may send it elsewhere.
        first = quote.transfers.filter(state=T.COUNTED).order_by("-units", "block", "log_index").first()
        sender = first.sender if first else ""
        paid = coin_returns.Paid(quote.reference, quote.token, sender, quote.units, quote.amount, quote)
        return coin_returns.open_return(paid, amount=amount, key=key, now=self._clock())

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        return self._now(_found(pk=_pk(ref)) if ref else _found(reference=reference))

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        return coin_returns.fetch(key=key, reference=_found(pk=_pk(ref)).reference)

    def fetch_dispute(self, ref: str) -> DisputeWord:
        raise no_disputes()

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        raise no_disputes()

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        raise BadSignature("A blockchain sends no webhooks.")

    def _now(self, quote: CoinQuote) -> Charge:
        return charge_of(quote, now=self._clock())


def start(chain: ChainReader, terms: Terms) -> ChainCursor:
    """Where reading of this chain begins: at its head when it was first asked about. Raises NoAnswer."""
    found = ChainCursor.objects.filter(pk=chain.network).first()
    if found is not None:
        return found
    head = chain.head()
    final = chain.block(max(0, head.number - terms.confirmations)) if head.number else head
    said = {"final_block": final.number, "final_hash": final.hash}
    return ChainCursor.objects.get_or_create(network=chain.network, defaults=said)[0]


def units_of(amount: int, currency: str, rate: str) -> int:
    """Atomic units of USDC for minor units of a currency, rounded up."""
    return math.ceil(Fraction(amount, 10 ** amounts.exponent(currency)) * Fraction(rate) * 10**PLACES)


def charge_of(quote: CoinQuote, now: datetime | None = None) -> Charge:
    """What its transfers make of a quote; without `now` as if its time were not over."""
    came = {row["state"]: row["units"] for row in quote.transfers.values("state").annotate(units=Sum("units"))}
    counted, seen = came.get(T.COUNTED, 0), came.get(T.SEEN, 0)
    over = now is not None and now >= quote.expires_at
    state, code, words = S.REQUIRES_ACTION, "", ""
    if counted >= quote.units:
        state = S.SUCCEEDED
    elif counted + seen and (seen or not over):
        state = S.PROCESSING
    elif quote.cancelled_at is not None:
        state = S.CANCELLED
    elif over:
        state, code, words = S.FAILED, *_failure(counted + came.get(T.WAITING, 0), quote)
    return Charge(
        ref=str(quote.pk),
        reference=quote.reference,
        state=state,
        amount=quote.amount,
        currency=quote.currency,
        captured=quote.amount if state == S.SUCCEEDED else 0,
        refunded=coin_returns.refunded(quote.reference) if state == S.SUCCEEDED else 0,
        # Where to send it is on the payment's own page.
        action_url=quote.return_url if state == S.REQUIRES_ACTION else "",
        failure_code=code,
        failure_message=words,
    )


def _failure(came: int, quote: CoinQuote) -> tuple[str, str]:
    if came:
        both = f"{amounts.usdc_text(came)} of {amounts.usdc_text(quote.units)}"
        return "underpaid", f"Only {both} USDC came. Staff decide about what came."
    return "expired", "Nothing came in time."


def _same(quote: CoinQuote, order: Order) -> Charge:
    if (quote.amount, quote.currency) != (order.amount, order.currency):
        raise Refused("key_reused", "This key stands for another payment.")
    return charge_of(quote)


def _pk(ref: str) -> str:
    """A ref that is no id of a quote finds nothing."""
    try:
        return str(UUID(ref))
    except ValueError as wrong:
        raise NotFound(ref) from wrong


def _found(**wanted: str) -> CoinQuote:
    found = CoinQuote.objects.filter(**wanted).first()
    if found is None:
        raise NotFound(next(iter(wanted.values())))
    return found
