"""Staff's pages across accounts: money of a month, the ledger, stuck holds."""

from __future__ import annotations

from datetime import UTC, date
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing import amounts, oversight, periods, roles
from billing.models import Account, Transaction
from billing.price_forms import MonthForm
from billing.views import paging


@require_safe
def money(request: HttpRequest, account: Account) -> HttpResponse:
    """Revenue by meter in a month (UTC), what unused credits are worth now, and holds that are stuck."""
    roles.require_staff(request.user)
    form, now = MonthForm(request.GET), timezone.now()
    if not form.is_valid():
        raise BadRequest("Choose a month, for example 2026-10.")
    first: date = form.cleaned_data["month"] or now.astimezone(UTC).date().replace(day=1)
    period = periods.containing(periods.midnight(first, ZoneInfo("UTC")), periods.Cadence.MONTHLY, ZoneInfo("UTC"))
    rows, liability = oversight.revenue(period), oversight.liability(now=now)
    unused_ucr = sum(row["unused_ucr"] for row in liability)
    context = {
        "first_day": first,
        "form": MonthForm(initial={"month": first}),
        "rows": rows,
        "revenue_ucr": sum(row.net_ucr for row in rows),
        "breakage_ucr": oversight.breakage_ucr(period),
        "liability": liability,
        "unused_ucr": unused_ucr,
        "unused": amounts.money_of_ucr(
            unused_ucr, credit_price=settings.CREDIT_PRICE, currency=settings.CREDIT_CURRENCY
        ),
        "currency": settings.CREDIT_CURRENCY,
        "owed": oversight.owed(),
        "holds": oversight.stuck_holds(now=now),
        "now": now,
    }
    return render(request, "billing/money.html", context)


@require_safe
def ledger(request: HttpRequest, account: Account) -> HttpResponse:
    """Every transaction of every account; from one to its entries and to what it came from."""
    roles.require_staff(request.user)
    asked, kind = request.GET.get("q", "").strip()[:300], request.GET.get("kind", "")
    page = paging.page(request, oversight.transactions(asked=asked, kind=kind))
    context = {"page": page, "q": asked, "kind": kind, "kinds": Transaction.Kind.choices}
    template = "billing/_ledger.html" if request.wants_partial else "billing/ledger.html"
    return render(request, template, context)
