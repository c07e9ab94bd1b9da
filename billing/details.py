"""An account's own facts: name, address, tax, period, automatic top-up; and what only staff may set of them."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from billing import alerts, auto_top_ups, ledger, live, methods
from billing.models import Account

OWN = frozenset(("name", "time_zone", "currency", "locale", "legal_name", "address", "tax_id", "billing_period"))
STAFFS = frozenset(("status", "tax_rate", "reverse_charge", "overdraft_ucr"))
# Kept in rows of their own.
ELSEWHERE = frozenset(("overdraft_ucr", "auto_topup", "low_balance_ucr"))


class StaffOnly(Exception):
    """Raised when a customer would set what only staff may."""

    code = "staff_required"

    def __init__(self, fields: list[str]) -> None:
        super().__init__(f"Only staff may change {', '.join(fields)}.")


class StaleVersion(Exception):
    """Raised when somebody else changed the account first."""

    code = "conflict"

    def __init__(self, version: int) -> None:
        self.extras = {"state": f"version {version}"}
        super().__init__(f"The account was changed meanwhile; it is at version {version} now. Read it again first.")


class AccountClosed(Exception):
    """Raised when a closed account would be opened again."""

    code = "conflict"
    extras = {"state": "closed"}

    def __init__(self) -> None:
        super().__init__("A closed account stays closed. Open a new one.")


class BadDetail(Exception):
    """Raised for a value that cannot be."""

    code = "validation_error"

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        self.extras = {"errors": {field: [sentence]}}
        super().__init__(sentence)


@transaction.atomic
def change(
    *, account: Account, changes: Mapping[str, Any], is_staff: bool, now: datetime, version: int | None = None
) -> Account:
    """Change some facts at once. With `version`, only if nobody else changed the account since."""
    beyond = sorted(name.replace("_ucr", "_credits") for name in STAFFS & changes.keys())
    if beyond and not is_staff:
        raise StaffOnly(beyond)
    current = _locked(account, changes)
    if version is not None and current.version != version:
        raise StaleVersion(current.version)
    _check(current, changes)
    if "overdraft_ucr" in changes:
        ledger.set_overdraft(account_id=account.pk, overdraft_ucr=changes["overdraft_ucr"])
    if "auto_topup" in changes:
        _set_auto_top_up(current, changes["auto_topup"], now)
    if "low_balance_ucr" in changes:
        alerts.watch_balance(account=current, threshold_ucr=changes["low_balance_ucr"])
    fields = {name: value for name, value in changes.items() if name not in ELSEWHERE}
    if "status" in changes:
        fields["suspended_for_debt"] = False  # From here on it is staff's word.
    if changes:
        Account.objects.filter(pk=account.pk).update(**fields, version=F("version") + 1)
        live.credits_changed(account.pk)
    current.refresh_from_db()
    return current


def _locked(account: Account, changes: Mapping[str, Any]) -> Account:
    """If its wallet changes too, that comes first, as for whoever suspends an account."""
    if "overdraft_ucr" in changes:
        ledger.lock_wallet(account.pk)
    found: Account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    return found


def _set_auto_top_up(account: Account, wanted: Mapping[str, Any] | None, now: datetime) -> None:
    """Null ends it. A simulated method that is named is kept, since it has to pay again and again."""
    if wanted is None:
        auto_top_ups.end(account=account)
        return
    chosen = methods.choose(account=account, named=wanted["payment_method"])
    method = chosen.method or methods.add(account=account, token=chosen.token, gateway=chosen.gateway, now=now)
    auto_top_ups.set_up(
        account=account,
        threshold_ucr=wanted["threshold_ucr"],
        credits_ucr=wanted["credits_ucr"],
        method=method,
        now=now,
    )


def _check(current: Account, changes: Mapping[str, Any]) -> None:
    if current.status == Account.Status.CLOSED and changes.get("status", "closed") != Account.Status.CLOSED:
        raise AccountClosed
    if changes.get("reverse_charge", current.reverse_charge):
        _check_reverse_charge(current, changes)
    if changes.get("time_zone", "UTC") not in zoneinfo.available_timezones():
        raise BadDetail("time_zone", "Not a time zone. Use a name such as Europe/Berlin.")
    if changes.get("currency", settings.CREDIT_CURRENCY) != settings.CREDIT_CURRENCY:
        raise BadDetail("currency", f"Credits are priced in {settings.CREDIT_CURRENCY} only.")


def _check_reverse_charge(current: Account, changes: Mapping[str, Any]) -> None:
    if not changes.get("tax_id", current.tax_id):
        raise BadDetail("tax_id", "Reverse charge needs the customer's tax id.")
    if changes.get("tax_rate", current.tax_rate):
        raise BadDetail("tax_rate", "With reverse charge there is no tax on an invoice; set the rate to 0.")
