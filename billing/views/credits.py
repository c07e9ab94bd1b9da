"""What an account has and what it went on: overview, usage, credits, one transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.exceptions import BadRequest
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe
from uuid_utils.compat import uuid7

from billing import amounts, charts, corrections, ledger, origins, periods, pricing, reports, roles, usage_csv
from billing.models import Account, ApiKey, Entry, Grant, Hold, Transaction, UsageRecord
from billing.money_forms import UsageForm
from billing.staff_forms import ReverseForm
from billing.views import paging

# Records of a batch that are listed with their charge; the CSV has them all.
MOST_USAGES = 100
NAMES = {meter: price.name for meter, price in pricing.DEFAULT_BOOK.items()}


@require_safe
def overview(request: HttpRequest, account: Account) -> HttpResponse:
    """Balance, burn and the latest lines; `?part=` is one piece that a nudge asked for."""
    template = {"balance": "_balance", "statement": "_statement"}.get(request.GET.get("part", ""), "overview")
    context = {
        "outlook": reports.outlook(account=account, now=timezone.now()),
        "may_pay": roles.may_pay(request.user, account),
        "page": paging.Page(list(_statement(account)[:8]), None, None),
        "holds": Hold.objects.filter(account=account, state=Hold.State.ACTIVE).order_by("expires_at", "pk")[:20],
    }
    return render(request, f"billing/{template}.html", context)


@require_safe
def credits(request: HttpRequest, account: Account) -> HttpResponse:
    """Grants, and the statement with its running balance."""
    template = "_statement" if request.wants_partial else "credits"
    now = timezone.now()
    context = {
        "balance": ledger.balance(account_id=account.pk, now=now),
        "grants": Grant.objects.filter(account=account).order_by("-created_at", "-pk")[:100],
        "now": now,
        "may_move": corrections.receivers(request.user, account).exists(),
        "page": paging.page(request, _statement(account)),
    }
    return render(request, f"billing/{template}.html", context)


def _statement(account: Account) -> QuerySet[Entry]:
    lines = Entry.objects.statement_of(account).select_related("transaction__hold")
    agent = UsageRecord.objects.filter(transaction=OuterRef("transaction")).order_by("pk").values("agent")[:1]
    return lines.annotate(agent=Subquery(agent))


@require_safe
def transaction(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """One transaction: its legs, and what it came from."""
    touching = Entry.objects.filter(transaction=pk, ledger_account__account=account)
    found = get_object_or_404(Transaction.objects.filter(pk__in=touching.values("transaction")), pk=pk)
    legs = found.entries.select_related("ledger_account").order_by("amount_ucr", "pk")
    usages = list(found.usages.filter(account=account).order_by("pk")[:MOST_USAGES])
    context = {
        "transaction": found,
        "legs": legs if request.user.is_staff else legs.filter(ledger_account__account=account),
        "consumptions": found.consumptions.filter(grant__account=account).select_related("grant").order_by("pk"),
        "usages": usages,
        "key_names": _key_names(account, usages),
        "usage_count": found.usages.filter(account=account).count(),
        "origin": origins.of(found),
        "reversal": (reversal := Transaction.objects.filter(reverses=found).first()),
    }
    if request.user.is_staff and reversal is None and corrections.may_be_taken_back(found):
        context["reverse_form"] = ReverseForm(initial={"key": uuid7()})
    return render(request, "billing/transaction.html", context)


def _key_names(account: Account, usages: list[UsageRecord]) -> str:
    """The API keys that asked for what was charged."""
    names = reports.labels_of_keys(account_id=account.pk, keys={each.api_key for each in usages if each.api_key})
    return ", ".join(sorted(names.values()))


@require_safe
def usage(request: HttpRequest, account: Account) -> HttpResponse:
    """What was used: by day and meter as a chart, by meter, agent and API key as tables."""
    form = _usage_form(request, account)
    if not form.is_valid():
        return render(request, "billing/usage.html", {"form": form}, status=422)
    wanted, zone = form.range(account), ZoneInfo(account.time_zone)
    days = reports.days(wanted, zone=zone)
    present = {meter for day in days for meter in day.by_meter}
    rows = reports.used(wanted, zone=zone)
    context = {
        "form": form,
        "wanted": wanted,
        "bars": charts.stack([(f"{day.day:%-d %b}", day.by_meter) for day in days], names=NAMES, unit=amounts.UCR),
        "legend": [(hue, name) for hue, (meter, name) in enumerate(NAMES.items()) if meter in present],
        "days": [day for day in days if day.by_meter],
        "first_day": days[0].day,
        "last_day": days[-1].day,
        "rows": [_named(row) for row in rows],
        "agents": reports.used_by_agent(wanted),
        "keys": reports.used_by_key(wanted),
        "total_ucr": sum(row["cost_ucr"] for row in rows),
        "query": request.GET.urlencode(),
    }
    return render(request, "billing/_usage.html" if request.wants_partial else "billing/usage.html", context)


def _named(row: dict[str, Any]) -> dict[str, Any]:
    price = pricing.default_price(row["meter"])
    return {**row, "name": price.name, "unit": price.unit, "shown": row["quantity"] / price.per}


@require_safe
def usage_export(request: HttpRequest, account: Account) -> HttpResponseBase:
    """The same usage, record by record, as CSV."""
    form = _usage_form(request, account)
    if not form.is_valid():
        raise BadRequest("Choose a first and a last day.")
    return usage_csv.response(form.range(account), name=account.slug)


def _usage_form(request: HttpRequest, account: Account) -> UsageForm:
    """What was asked, and the running period where nothing was."""
    zone = ZoneInfo(account.time_zone)
    period = periods.containing(timezone.now(), periods.Cadence(account.billing_period), zone)
    days = list(periods.days(period, zone))
    given = {"start": days[0], "end": days[-1], "meter": "", "agent": "", "api_key": ""}
    keys = ApiKey.objects.filter(account=account).order_by("name", "pk").values_list("pk", flat=True)
    names = reports.labels_of_keys(account_id=account.pk, keys=keys)
    asked = {name: request.GET[name] for name in given if request.GET.get(name)}
    return UsageForm({**given, **asked}, keys=[(str(pk), names[pk]) for pk in keys])
