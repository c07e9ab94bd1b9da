"""Credits as billing kept them at its migration 0024, with the models and the functions that the database had then."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.apps.registry import Apps
from django.db import connection
from django.utils import timezone

UCR = 1_000_000
_number = itertools.count(1)


def ask(statement: str, *values: object) -> Any:
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


class OldLedger:
    """One account with its wallet; every method moves its credits."""

    def __init__(self, models: Apps, name: str) -> None:
        self.model = lambda model: models.get_model("billing", model).objects
        self.now = timezone.now()
        number = next(_number)
        self.owner = self.model("User").create(email=f"old{number}@example.com", name="Alice", password="!")
        self.account = self.model("Account").create(name=name, slug=f"old-{number}")
        self.model("Membership").create(account=self.account, user=self.owner, role="owner")
        self.wallet = self.model("LedgerAccount").create(
            code=f"wallet:{self.account.pk}", kind="wallet", account=self.account, floor_ucr=0
        )

    def post(self, kind: str, credits: int, against: str, **changes: Any) -> Any:
        """A transaction with its two legs; negative credits leave the wallet."""
        self.wallet.refresh_from_db()
        wanted = {"source": "test", "key": f"{kind} {next(_number)}", "request_hash": ""} | changes
        written = self.model("Transaction").create(account=self.account, kind=kind, created_at=self.now, **wanted)
        self.wallet.posted_ucr += credits * UCR
        self.wallet.last_line += 1
        self.wallet.save()
        house = ask("select billing_house_account(%s, %s)", against, uuid4())
        legs = self.model("Entry").create
        leg = {"transaction": written, "created_at": self.now}
        legs(ledger_account=self.wallet, amount_ucr=credits * UCR, balance_after_ucr=self.wallet.posted_ucr,
             line=self.wallet.last_line, **leg)  # fmt: skip
        legs(ledger_account_id=house, amount_ucr=-credits * UCR, **leg)
        return written

    def grant(self, credits: int, *, category: str = "promo", written: Any = None, **changes: Any) -> Any:
        written = written or self.post("grant", credits, "issuance")
        return self.model("Grant").create(
            account=self.account, wallet=self.wallet, transaction=written, category=category,
            amount_ucr=credits * UCR, remaining_ucr=credits * UCR, created_at=self.now, **changes,
        )  # fmt: skip

    def take(self, kind: str, credits: int, against: str, *, grant: Any) -> Any:
        """All of it from one grant."""
        written = self.post(kind, -credits, against)
        grant.remaining_ucr -= credits * UCR
        grant.save()
        self.model("GrantConsumption").create(grant=grant, transaction=written, amount_ucr=credits * UCR)
        return written

    def charge(self, credits: int, **changes: Any) -> Any:
        """Answers the transaction."""
        key = f"charge {next(_number)}"
        outcome = ask(
            "select outcome from billing_charge(%s, %s, 'revenue:other', %s, 'test', %s, '', '', '', '', %s)",
            self.account.pk, [uuid4() for _ in range(4)], credits * UCR, key, self.now,
        )  # fmt: skip
        assert outcome == "ok"
        return self.model("Transaction").get(account=self.account, source="test", key=key)

    def reverse(self, charged: Any, credits: int) -> Any:
        written = self.post("reversal", credits, "revenue:other", reverses=charged)
        return self.grant(credits, category="refund", written=written)

    def hold(self, credits: int, state: str = "active") -> Any:
        key = f"hold {next(_number)}"
        until = self.now + timedelta(days=1)
        outcome = ask("select outcome from billing_hold(%s, %s, %s, %s, '', %s, %s)",
                      self.account.pk, uuid4(), key, credits * UCR, until, self.now)  # fmt: skip
        if state != "active":
            taken = credits * UCR // 2 if state == "captured" else 0
            outcome = ask("select outcome from billing_end_hold(%s, %s, %s, 'revenue:other', %s, 'test', %s, '', '', '', '', %s)",
                          key, state, [uuid4() for _ in range(4)], taken, key, self.now)  # fmt: skip
        assert outcome == "ok"
        return self.model("Hold").get(key=key)

    def pay(self, credits: int, **changes: Any) -> Any:
        """A payment that succeeded, with what it bought."""
        wanted = {
            "purpose": "credits",
            "gateway": "simulated",
            "key": f"payment {next(_number)}",
            "id": uuid4(),
        } | changes
        bought = self.post("grant", credits, "issuance", source="payments", key=str(wanted["id"]))
        return self.model("Payment").create(
            account=self.account, credits_ucr=credits * UCR, subtotal=credits, amount=credits, captured=credits,
            currency="EUR", method_token="sim_ok", method_label="A card", request_hash="", state="succeeded",
            grant=self.grant(credits, category="paid", written=bought), created_at=self.now, settled_at=self.now, **wanted,
        )  # fmt: skip
