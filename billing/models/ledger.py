"""The double-entry ledger: accounts, transactions, entries, grants, holds. Written only by `billing.ledger`.

A transaction's entries sum to zero; entries, transactions and consumptions are append-only (triggers).
Wallets carry their balances; system accounts (issuance, revenue:<meter>, breakage) are entries only, so
that no two customers ever wait for one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact
from uuid_utils.compat import uuid7

from billing.models.customers import Account

if TYPE_CHECKING:
    from billing.keys import Principal


class OfAccount(models.QuerySet[models.Model]):
    """Rows that point to an account reach a principal through it."""

    def visible_to(self, principal: Principal) -> OfAccount:
        return self.filter(account__in=Account.objects.visible_to(principal))

    def editable_by(self, principal: Principal) -> OfAccount:
        return self.filter(account__in=Account.objects.editable_by(principal))


class LedgerAccount(models.Model):
    """A wallet (one per account) or an account of the house.

    Every spend reads the text of its table's CHECKs anew, so what it never changes (kind, account, floor, debt,
    arrears) is guarded by the trigger `wallet_is_sound` (sql/0034).
    """

    class Kind(models.TextChoices):
        WALLET = "wallet"
        ISSUANCE = "issuance"
        REVENUE = "revenue"
        BREAKAGE = "breakage"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    code = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    account = models.OneToOneField(Account, on_delete=models.PROTECT, null=True, related_name="wallet")
    posted_ucr = models.BigIntegerField(default=0)
    held_ucr = models.BigIntegerField(default=0)
    # What was spent beyond all grants, on the allowed overdraft; the next grant repays it first.
    debt_ucr = models.BigIntegerField(default=0)
    floor_ucr = models.BigIntegerField(null=True, blank=True)
    # How far below its floor a refund of credits that had been spent has pushed the wallet.
    arrears_ucr = models.BigIntegerField(default=0, db_default=0)
    # Whether any budget watches it: without one, none is looked for.
    has_budgets = models.BooleanField(default=False, db_default=False)
    # Number of the last statement line: given under the row's lock, so a statement has one order.
    last_line = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(held_ucr__gte=0), name="wallet_held_not_negative"),
            # An account of the house has no floor, and nothing in it.
            models.CheckConstraint(
                condition=Coalesce(
                    Q(posted_ucr__gte=F("floor_ucr") + F("held_ucr") - F("arrears_ucr")),
                    Q(posted_ucr=0, held_ucr=0),
                    output_field=models.BooleanField(),
                ),
                name="wallet_above_floor",
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def available_ucr(self) -> int:
        return self.posted_ucr - self.held_ucr - (self.floor_ucr or 0)


class Transaction(models.Model):
    """One thing that happened, with its entries. (account, source, key) makes it happen once, for ever."""

    class Kind(models.TextChoices):
        GRANT = "grant"
        CHARGE = "charge"
        CAPTURE = "capture"
        EXPIRY = "expiry"
        TRANSFER = "transfer"
        REFUND = "refund"
        REVERSAL = "reversal"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Found by the indexes that begin with it. That its account is there is checked with its entries (sql/0034).
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="transactions", db_index=False, db_constraint=False
    )
    kind = models.CharField(max_length=10, choices=Kind.choices)
    source = models.CharField(max_length=200)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    description = models.CharField(max_length=300, blank=True)
    actor = models.CharField(max_length=80, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # Checked by the trigger on reversals (sql/0034).
    reverses = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="reversed_by",
        db_index=False,
        db_constraint=False,
    )
    created_at = models.DateTimeField()

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "source", "key"], name="one_transaction_per_key"),
            models.UniqueConstraint(
                fields=["reverses"], condition=Q(reverses__isnull=False), name="a_transaction_is_reversed_once"
            ),
            models.CheckConstraint(
                condition=Exact(Q(kind="reversal"), Q(reverses__isnull=False)), name="reversals_name_what_they_reverse"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Entries(models.QuerySet["Entry"]):
    def statement_of(self, account: Account) -> Entries:
        """What came into a wallet and left it, the newest first: as its index has it, which a join would not use."""
        wallet = LedgerAccount.objects.filter(account=account).values("pk")[:1]
        return self.filter(ledger_account=wallet, line__isnull=False).order_by("-line")


class Entry(models.Model):
    """One leg of a transaction. Wallet legs carry the balance after them and their line on the statement."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # That both are there is checked once for all legs of a statement (sql/0025), and neither is ever deleted: a foreign
    # key would look for each, and lock the one row of a house account for everybody who spends.
    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="entries", db_constraint=False)
    ledger_account = models.ForeignKey(
        LedgerAccount, on_delete=models.PROTECT, related_name="entries", db_index=False, db_constraint=False
    )
    amount_ucr = models.BigIntegerField()
    balance_after_ucr = models.BigIntegerField(null=True)
    line = models.BigIntegerField(null=True)
    created_at = models.DateTimeField()

    objects = Entries.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(amount_ucr=0), name="entry_is_not_zero"),
            models.UniqueConstraint(
                fields=["ledger_account", "line"],
                condition=Q(line__isnull=False),
                name="one_entry_per_statement_line",
            ),
            models.CheckConstraint(
                condition=Exact(Q(line__isnull=True), Q(balance_after_ucr__isnull=True)),
                name="statement_lines_carry_a_balance",
            ),
        ]
        indexes = [models.Index(fields=["ledger_account", "-created_at", "-id"], name="entry_newest")]

    def __str__(self) -> str:
        return f"{self.amount_ucr} on {self.ledger_account_id}"

    @property
    def spent_ucr(self) -> int:
        return -self.amount_ucr


class Grant(models.Model):
    """Credits given or bought. Burnt lowest priority number first, then sooner expiry, then older."""

    class Category(models.TextChoices):
        SIGNUP = "signup"
        PAID = "paid"
        PROMO = "promo"
        REFUND = "refund"
        ADJUST = "adjust"
        TRANSFER = "transfer"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="grants")
    wallet = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="grants", db_index=False)
    transaction = models.OneToOneField(Transaction, on_delete=models.PROTECT, related_name="grant")
    category = models.CharField(max_length=10, choices=Category.choices)
    # 0 to 100, and amounts are above 0: a trigger looks once (`grant_is_sound`, sql/0034), since neither ever changes.
    priority = models.SmallIntegerField(default=50)
    amount_ucr = models.BigIntegerField()
    remaining_ucr = models.BigIntegerField()
    # What the indexes are of: as long as it stays, using a grant changes none of them.
    is_open = models.GeneratedField(
        expression=Q(remaining_ucr__gt=0), output_field=models.BooleanField(), db_persist=True
    )
    reason = models.CharField(max_length=300, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(remaining_ucr__gte=0, remaining_ucr__lte=F("amount_ucr")), name="grant_within_amount"
            ),
            models.UniqueConstraint(fields=["account"], condition=Q(category="signup"), name="one_signup_grant"),
        ]
        indexes = [
            models.Index(
                fields=["wallet", "priority", "expires_at", "created_at", "id"],
                condition=Q(is_open=True),
                name="grant_burn_order",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(is_open=True, expires_at__isnull=False),
                name="grant_expiring",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.category} grant {self.id}"


class GrantConsumption(models.Model):
    """Which transaction used how much of which grant."""

    id = models.BigAutoField(primary_key=True)
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="consumptions", db_index=False)
    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="consumptions", db_index=False)
    amount_ucr = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_ucr__gt=0), name="consumption_is_positive"),
            # Looked for by transaction.
            models.UniqueConstraint(fields=["transaction", "grant"], name="one_consumption_per_grant_and_act"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_ucr} of {self.grant_id}"


class Hold(models.Model):
    """Credits set aside for work whose cost is not known yet: active -> captured | released | expired."""

    class State(models.TextChoices):
        ACTIVE = "active"
        CAPTURED = "captured"
        RELEASED = "released"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="holds", db_index=False)
    wallet = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="holds", db_index=False)
    key = models.CharField(max_length=340, unique=True)
    purpose = models.CharField(max_length=200, blank=True)
    # The key that asked for the work, which what is captured keeps.
    api_key = models.UUIDField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    amount_ucr = models.BigIntegerField()
    captured_ucr = models.BigIntegerField(default=0)
    transaction = models.OneToOneField(Transaction, on_delete=models.PROTECT, null=True, related_name="hold")
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_ucr__gt=0), name="hold_is_positive"),
            models.CheckConstraint(
                condition=Q(captured_ucr__gte=0, captured_ucr__lte=F("amount_ucr")), name="hold_within_amount"
            ),
            models.CheckConstraint(condition=Q(state="captured") | Q(captured_ucr=0), name="hold_captured_if_captured"),
            models.CheckConstraint(
                condition=Q(state="active", resolved_at=None) | (~Q(state="active") & Q(resolved_at__isnull=False)),
                name="hold_resolved_has_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="hold_newest"),
            models.Index(fields=["expires_at"], condition=Q(state="active"), name="hold_expiring"),
        ]

    def __str__(self) -> str:
        return f"hold {self.id} ({self.state})"
