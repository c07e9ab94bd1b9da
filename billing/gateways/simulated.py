"""The gateway without money: the adapter's half, which speaks to simulated_remote.py as to another machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from billing.gateways import (
    AnswerLost,
    BadSignature,
    Charge,
    ChargeState,
    DisputeWord,
    Event,
    Order,
    Repayment,
    RepaymentState,
    answers,
    events,
    signatures,
    simulated_disputes,
    simulated_remote,
)
from billing.models import SimulatedEvent, SimulatedPayment, SimulatedRefund

NAME = "simulated"
LOSES_ANSWERS = "sim_unknown"
Deliver = Callable[[bytes, Mapping[str, str]], None]


class SimulatedGateway:
    name = NAME

    def __init__(self, *, secrets: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._secrets = list(secrets)
        self._clock = clock

    def create(self, order: Order) -> Charge:
        made = simulated_remote.create(order, now=self._clock())
        if order.method == LOSES_ANSWERS:
            raise AnswerLost("The gateway's answer was lost, as this method wants it.")
        return _charge(made)

    def confirm(self, ref: str, *, key: str) -> Charge:
        return _charge(simulated_remote.confirm(ref, now=self._clock()))

    def decline(self, ref: str) -> Charge:
        """The customer says no to the simulated bank."""
        return _charge(simulated_remote.confirm(ref, now=self._clock(), approves=False))

    def capture(self, ref: str, *, amount: int, key: str) -> Charge:
        return _charge(simulated_remote.capture(ref, amount=amount, now=self._clock()))

    def cancel(self, ref: str, *, key: str) -> Charge:
        return _charge(simulated_remote.cancel(ref, now=self._clock()))

    def refund(self, ref: str, *, amount: int, key: str) -> Repayment:
        return _repayment(simulated_remote.refund(ref, amount=amount, key=key, now=self._clock()))

    def fetch(self, *, ref: str = "", reference: str = "") -> Charge:
        return _charge(simulated_remote.look_up(ref=ref, reference=reference, now=self._clock()))

    def fetch_refund(self, *, key: str, ref: str) -> Repayment:
        return _repayment(simulated_remote.look_up_refund(key=key))

    def dispute(self, ref: str, *, dispute_ref: str = "", state: str = "opened") -> str:
        """The payer, or the payer's bank, has something to say; a webhook tells us what."""
        return simulated_disputes.dispute(ref, dispute_ref=dispute_ref, state=state, now=self._clock())

    def fetch_dispute(self, ref: str) -> DisputeWord:
        return answers.dispute(simulated_disputes.look_up(ref))

    def give_evidence(self, ref: str, *, evidence: Mapping[str, str], key: str) -> DisputeWord:
        said = simulated_disputes.give_evidence(ref, evidence=evidence, key=key, now=self._clock())
        return answers.dispute(said)

    def read_webhook(self, *, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
        try:
            signatures.check(body, headers, secrets=self._secrets, now=now)
        except signatures.Wrong as wrong:
            raise BadSignature(str(wrong)) from wrong
        event = events.read(body)
        simulated_remote.learn(ref=event.ref, reference=event.reference, state=event.state)
        return event

    def send_webhooks(self, deliver: Deliver) -> int:
        """Send what the other side has to say; it is sent again when we crash before it is noted as sent."""
        waiting = simulated_remote.unsent(now=self._clock())
        for event in waiting:
            self._send(event, deliver)
        return len(waiting)

    def _send(self, event: SimulatedEvent, deliver: Deliver) -> None:
        now = self._clock()
        body = json.dumps(event.body).encode()
        for _ in range(event.copies):
            deliver(body, signatures.sign(body, secret=self._secrets[0], id=event.body["id"], now=now))
        simulated_remote.sent(event, now=now)


def _charge(payment: SimulatedPayment) -> Charge:
    waits = payment.state == ChargeState.REQUIRES_ACTION
    return Charge(
        ref=payment.ref,
        reference=payment.reference,
        state=ChargeState(payment.state),
        amount=payment.amount,
        currency=payment.currency,
        captured=payment.captured,
        refunded=payment.refunded,
        # What a bank's own page would be.
        action_url=f"{payment.return_url}bank/" if waits and payment.return_url else "",
        **simulated_remote.failure(payment.state),
    )


def _repayment(refund: SimulatedRefund) -> Repayment:
    return Repayment(ref=refund.ref, state=RepaymentState.SUCCEEDED, amount=refund.amount)
