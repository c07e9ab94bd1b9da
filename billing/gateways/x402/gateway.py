"""x402's adapter: settles what was signed, once. What became of it when the answer was lost, only the chain knows.

accepted -> sent -> settled (it is on the chain) | refused (it expired, or the facilitator took nothing)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from billing.chains import ChainReader, NoAnswer, Transfer
from billing.gateways import (
    AnswerLost,
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
from billing.gateways import usdc as addresses_of
from billing.gateways.x402 import wire
from billing.gateways.x402.facilitators import Facilitator
from billing.gateways.x402.wire import Requirements
from billing.models import X402Authorization

NAME = "x402"
A = X402Authorization.State
# A facilitator that says so has put nothing on the chain; unless it says that the nonce was used, which somebody did.
CERTAIN = ("invalid_exact_", "invalid_payload", "invalid_network", "insufficient_", "unsupported_")


@dataclass(frozen=True)
class Terms:
    """Where x402 pays to. Without a facilitator's address there is no `upto`."""

    asset: str
    pay_to: str
    token_name: str
    rate: str
    confirmations: int
    facilitator: str = ""


class X402Gateway:
    name = NAME

    def __init__(
        self, chain: ChainReader, facilitator: Facilitator, terms: Terms, *, clock: Callable[[], datetime]
    ) -> None:
        self.chain = chain
        self.facilitator = facilitator
        self.terms = terms
        self._clock = clock

    def offers(self, *, amount: int, currency: str) -> list[Requirements]:
        """How so much can be paid, in minor units of the currency."""
        units = addresses_of.units_of(amount, currency, self.terms.rate)
        exact = Requirements(
            wire.EXACT, self.chain.network, units, self.terms.asset, self.terms.pay_to, self.terms.token_name
        )
        upto = replace(exact, scheme=wire.UPTO, facilitator=self.terms.facilitator)
        return [exact, upto] if self.terms.facilitator else [exact]

    def first_block(self) -> int:
        """Nothing settled from now on lies in an earlier one. Raises NoAnswer."""
        said = addresses_of.Terms(self.terms.asset, self.terms.rate, self.terms.confirmations)
        return addresses_of.start(self.chain, said).final_block

    def create(self, order: Order) -> Charge:
        """Settle an authorisation that was accepted, once: whoever asks again is told what became of it."""
        row = X402Authorization.objects.filter(pk=_id(order.method)).first()
        if row is None:
            raise Refused("unknown_method", "This is no authorisation that was accepted here.")
        said = {"reference": order.reference, "amount": order.amount, "currency": order.currency}
        mine = X402Authorization.objects.filter(pk=row.pk, state=A.ACCEPTED)
        if mine.update(**said, state=A.SENT):
            self._settle(row)
        row.refresh_from_db()
        if (row.reference, row.amount, row.currency) != (order.reference, order.amount, order.currency):
            raise Refused("key_reused", "This authorisation pays something else.")
        return self._charge(row)

    def _settle(self, row: X402Authorization) -> None:
        said = self.facilitator.settle(row.payload, self._wanted(row))
        if said.tx_hash:
            self._note(row, said.tx_hash)
        elif said.reason.startswith(CERTAIN) and "nonce" not in said.reason:
            self._refuse(row, said.reason)
        else:
            raise AnswerLost(f"The facilitator says {said.reason}, and it may still be settled.")

    def _wanted(self, row: X402Authorization) -> Requirements:
        wanted = next(each for each in self._all(row) if each.scheme == row.scheme)
        return replace(wanted, units=row.units)

    def _all(self, row: X402Authorization) -> list[Requirements]:
        exact = Requirements(wire.EXACT, row.network, row.units, row.asset, row.pay_to, self.terms.token_name)
        return [exact, replace(exact, scheme=wire.UPTO, facilitator=self.terms.facilitator)]

    def _note(self, row: X402Authorization, tx_hash: str) -> None:
        """A transaction settles one authorisation. Raises AnswerLost when it settled another."""
        try:
            with transaction.atomic():
                X402Authorization.objects.filter(pk=row.pk).update(state=A.SETTLED, tx_hash=tx_hash)
        except IntegrityError as taken:
            raise AnswerLost("The facilitator names a transaction that settled another payment.") from taken

    def _refuse(self, row: X402Authorization, reason: str) -> None:
        X402Authorization.objects.filter(pk=row.pk, state=A.SENT).update(state=A.REFUSED, reason=reason[:60])

    def _charge(self, row: X402Authorization) -> Charge:
        """Raises AnswerLost while nobody knows."""
        if row.state == A.SENT:
            self._look(row)
            row.refresh_from_db()
        if row.state == A.SENT:
            raise AnswerLost("Whether it was settled is not known yet.")
        is_settled = row.state == A.SETTLED
        return Charge(
            ref=str(row.pk),
            reference=row.reference,
            state=ChargeState.SUCCEEDED if is_settled else ChargeState.FAILED,
            amount=row.amount,
            currency=row.currency,
            captured=row.amount if is_settled else 0,
            refunded=coin_returns.refunded(row.reference or "") if is_settled else 0,
            failure_code=row.reason,
            failure_message="" if is_settled else f"It was not settled: {row.reason.replace('_', ' ')}.",
        )

    def _look(self, row: X402Authorization) -> None:
        """Whether the chain has it, deep enough to stay; or has gone on past its end without it."""
        try:
            head = self.chain.head()
            final = self.chain.block(max(row.first_block, head.number - self.terms.confirmations + 1))
            found = self.chain.transfers(
                token=row.asset, recipients=[row.pay_to], first=max(1, row.first_block), last=head.number
            )
        except NoAnswer as silent:
            raise AnswerLost(f"The chain does not say: {silent}") from silent
        mine = self._free([each for each in found if (each.sender, each.units) == (row.payer, row.units)])
        deep = [each for each in mine if each.block <= final.number]
        if deep:
            self._note(row, deep[0].tx_hash)
        elif not mine and final.time > row.valid_before:
            self._refuse(row, "expired")

    def _free(self, found: list[Transfer]) -> list[Transfer]:
        """Those that settled no other authorisation."""
        taken = set(
            X402Authorization.objects.filter(
                network=self.chain.network, tx_hash__in=[each.tx_hash for each in found]
            ).values_list("tx_hash", flat=True)
        )
        return [each for each in found if each.tx_hash not in taken]

    def confirm(self, ref: str, *, key: str) -> Charge:
        return self._charge(_found(pk=_known(ref)))

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        found = self._charge(_found(pk=_known(ref)))
        if found.state != ChargeState.SUCCEEDED or found.amount != amount:
            raise Refused("not_capturable", "It was settled or not; nothing is captured.")
        return found

    def cancel(self, ref: str, *, key: str) -> Charge:
        """What was sent to the facilitator cannot be called back; the answer says how it ended."""
        return self._charge(_found(pk=_known(ref)))

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        """To who signed; the operator sends it, since no key to do so is here."""
        row = _found(pk=_known(ref))
        if row.state != A.SETTLED:
            raise Refused("not_refundable", "Nothing was settled here that could go back.")
        paid = coin_returns.Paid(row.reference or "", row.asset, row.payer, row.units, row.amount, row)
        return coin_returns.open_return(paid, amount=amount, key=key, now=self._clock())

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        return self._charge(_found(pk=_known(ref)) if ref else _found(reference=reference))

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        return coin_returns.fetch(key=key, reference=_found(pk=_known(ref)).reference or "")

    def fetch_dispute(self, ref: str) -> DisputeWord:
        raise no_disputes()

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        raise no_disputes()

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        raise BadSignature("A facilitator sends no webhooks.")


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _known(ref: str) -> UUID:
    found = _id(ref)
    if found is None:
        raise NotFound(ref)
    return found


def _found(**wanted: object) -> X402Authorization:
    """One that was sent; what was only accepted never arrived anywhere."""
    found = X402Authorization.objects.filter(**wanted).exclude(state=A.ACCEPTED).first()
    if found is None:
        raise NotFound(str(next(iter(wanted.values()))))
    return found
