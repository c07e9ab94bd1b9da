"""Pure. What customers can be told of: the types, in words, with an example of their data.

`{"id", "type", "timestamp", "account", "data"}` is the body of every one. `data` is thin: ids to ask the API about,
and the facts that most receivers decide by. Amounts are written as everywhere in the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EVERYTHING = "*"
TEST = "endpoint.test"
_ID = "0198c0de-0000-7000-8000-000000000000"
_MONEY = {"amount": "12.50", "currency": "EUR"}
_BUDGET = {"budget": _ID, "scope": "account", "target": None, "window": "month", "spent": "800.000000",
           "limit": "1000.000000"}  # fmt: skip
_INVOICE = {"invoice": _ID, "number": "2026-0001", "total": _MONEY, "amount_due": _MONEY, "due_at": None}
_PAYMENT = {"payment": _ID, "purpose": "top_up", "total": _MONEY, "credits": "1000.000000", "invoice": None}
_REFUND = {"refund": _ID, "payment": _ID, "total": _MONEY, "credits": "1000.000000"}
_DISPUTE = {"dispute": _ID, "payment": _ID, "total": _MONEY, "credits": "1000.000000", "reason": ""}
_TASK = {"task": _ID, "federation": _ID, "type": "backtest", "state": "completed", "error": ""}


@dataclass(frozen=True)
class EventType:
    """`is_operator` ones are about the machines and reach only endpoints that staff made."""

    name: str
    sentence: str
    example: Mapping[str, object] = field(default_factory=dict)
    is_operator: bool = False


CATALOGUE = (
    EventType("credits.low", "Fewer credits are left than the account wants to be warned at.",
              {"available": "99.500000", "threshold": "100.000000"}),
    EventType("budget.threshold", "A budget has reached one of its thresholds, once in its window.",
              _BUDGET | {"threshold": 80}),
    EventType("budget.blocked", "A budget that blocks has refused a spend, told once in its window.", _BUDGET),
    EventType("invoice.opened", "An invoice was issued and waits to be paid.", _INVOICE),
    EventType("invoice.paid", "An invoice was paid.", _INVOICE),
    EventType("invoice.overdue", "An invoice is past its due date, told with each reminder.", _INVOICE | {"days": 3}),
    EventType("payment.succeeded", "A payment went through.", _PAYMENT),
    EventType("payment.failed", "A payment failed or was cancelled.",
              _PAYMENT | {"failure_code": "card_declined", "failure_message": "The card was declined."}),
    EventType("payment.reversed", "A payment had not gone through after all; its credits are taken back.",
              _PAYMENT),
    EventType("refund.succeeded", "Money went back to the customer.", _REFUND),
    EventType("refund.failed", "A refund was refused; its credits were given back.", _REFUND),
    EventType("account.suspended", "The account was suspended; nothing new is started.",
              {"account": _ID, "reason": "unpaid_invoice"}),
    EventType("account.resumed", "What was owed is paid, and the account is active again.", {"account": _ID}),
    EventType("dispute.opened", "A payer disputes a payment; its unspent credits are set aside.", _DISPUTE),
    EventType("dispute.under_review", "The gateway looks at a dispute.", _DISPUTE),
    EventType("dispute.won", "A dispute was won; the credits are back.", _DISPUTE),
    EventType("dispute.lost", "A dispute was lost; what of the credits was spent is owed.", _DISPUTE),
    EventType("execution.finished", "An execution reached its last state.",
              {"execution": _ID, "state": "succeeded", "exit_code": 0, "breach": None, "agent": None}),
    EventType("task.finished", "A task of a federation was completed or failed for good.", _TASK),
    EventType("task.dead", "A task was given up after all its attempts.",
              _TASK | {"state": "dead", "error": "It timed out."}),
    EventType("agent.lost", "An agent was silent for too long; its tasks went to others.",
              {"agent": _ID, "federation": _ID, "name": "eu-07"}),
    EventType("node.unhealthy", "A node of the fleet became unhealthy.",
              {"node": _ID, "name": "node-1", "reason": "It was not heard for 15 s."}, is_operator=True),
    EventType(TEST, "Sent by the button, to try an endpoint.", {"message": "It works."}),
)  # fmt: skip
NAMES = tuple(each.name for each in CATALOGUE)
BY_NAME = {each.name: each for each in CATALOGUE}


def unknown(wanted: list[str]) -> list[str]:
    """Those that nothing is ever told of."""
    return [name for name in wanted if name != EVERYTHING and name not in BY_NAME]


def operators_only(wanted: list[str]) -> list[str]:
    return [name for name in wanted if name in BY_NAME and BY_NAME[name].is_operator]
