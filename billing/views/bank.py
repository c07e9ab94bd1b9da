"""Staff's pages of the bank: statements that are imported, lines that wait to be matched, money to send back."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import bank_importing, bank_matching, bank_returns, bank_undoing, roles
from billing.bank import references
from billing.bank.lines import BadFile
from billing.bank_forms import AsideForm, ImportForm, MatchForm, PartForm, UndoForm
from billing.gateways import registry
from billing.models import Account, BankLine, BankMatch, BankReturn, BankStatement, Payment, User
from billing.payment_states import State
from billing.views import paging

NAME = "bank"


@require_safe
def bank(request: HttpRequest, account: Account) -> HttpResponse:
    """Of every account: what came and is not matched, or all that came."""
    roles.require_staff(request.user)
    shows_all = request.GET.get("show") == "all"
    rows = BankLine.objects.all() if shows_all else BankLine.objects.filter(matched__lt=F("amount"))
    context = {
        "page": paging.page(request, rows.order_by("-booked_on", "-pk")),
        "shows_all": shows_all,
        "is_on": NAME in registry.names(),
        "returns": _due()[:100],
        "statements": BankStatement.objects.order_by("-created_at", "-pk")[:10],
    }
    return render(request, "billing/_bank_lines.html" if request.wants_partial else "billing/bank_lines.html", context)


def _due() -> QuerySet[BankReturn]:
    due = BankReturn.objects.filter(state=BankReturn.State.DUE).select_related("transfer", "match__line")
    return due.order_by("created_at", "pk")


@require_http_methods(["GET", "HEAD", "POST"])
def bank_import(request: HttpRequest, account: Account) -> HttpResponse:
    roles.require_staff(request.user)
    form = ImportForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid() and _import(request, form):
        return redirect("billing:bank", account)
    context = {"form": form, "is_on": NAME in registry.names()}
    return render(request, "billing/bank_import.html", context, status=422 if form.errors else 200)


def _import(request: HttpRequest, form: ImportForm) -> bool:
    file = form.cleaned_data["file"]
    try:
        statement, matched = bank_importing.take(
            data=file.read(), name=file.name, columns=form.columns(), actor=_actor(request), now=timezone.now()
        )
    except BadFile as wrong:
        form.add_error("file", str(wrong))
        return False
    messages.success(
        request,
        f"{statement.name}: {statement.new} new, {statement.known} known before, {statement.skipped} left out as no "
        f"payments to us. {matched} matched by themselves.",
    )
    return True


@require_safe
def bank_line(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What came, what it was matched with, and what it may be."""
    roles.require_staff(request.user)
    line = _line(pk)
    return render(request, "billing/bank_line.html", _context(line))


def _line(pk: UUID) -> BankLine:
    found: BankLine = get_object_or_404(BankLine.objects.select_related("statement"), pk=pk)
    return found


def _context(line: BankLine, **forms: object) -> dict[str, object]:
    return {
        "line": line,
        "matches": _matches(line),
        "candidates": _candidates(line) if line.left else [],
        "match_form": MatchForm(line=line, initial={"reference": line.reference}),
        "part_form": PartForm(line=line, prefix="back"),
        "aside_form": AsideForm(prefix="aside"),
        **forms,
    }


def _matches(line: BankLine) -> list[BankMatch]:
    """With who made each, by name."""
    found = list(line.matches.select_related("transfer", "undo").order_by("created_at", "pk"))
    actors = {each.actor for each in found} | {each.undo.actor for each in found if hasattr(each, "undo")}
    ids = {actor: actor.removeprefix("user:") for actor in actors if actor.startswith("user:")}
    people = {str(user.pk): str(user) for user in User.objects.filter(pk__in=ids.values())}
    for each in found:
        each.by = "by itself" if each.actor == bank_matching.BY_ITSELF else people.get(ids.get(each.actor), each.actor)
        each.undone_by = people.get(ids.get(each.undo.actor), each.undo.actor) if hasattr(each, "undo") else ""
    return found


def _candidates(line: BankLine) -> list[Payment]:
    """Payments that wait: the one it names, then those of what is left."""
    waiting = Payment.objects.filter(gateway=NAME, state=State.PROCESSING).select_related("account", "invoice")
    named = waiting.filter(gateway_ref=line.reference) if line.reference else waiting.none()
    alike = waiting.filter(amount=line.left, currency=line.currency).exclude(gateway_ref=line.reference)
    return [*named, *alike.order_by("created_at", "pk")[:10]]


@require_POST
def bank_match(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    line = _line(pk)
    form = MatchForm(request.POST, line=line)
    if not form.is_valid():
        return render(request, "billing/bank_line.html", _context(line, match_form=form), status=422)
    made = bank_matching.match(line_id=pk, actor=_actor(request), now=timezone.now(), **form.cleaned_data)
    messages.success(request, f"Matched with {references.grouped(str(made.transfer))}.")
    return redirect("billing:bank-line", account, pk)


@require_POST
def bank_give_back(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    line = _line(pk)
    form = PartForm(request.POST, line=line, prefix="back")
    if not form.is_valid():
        return render(request, "billing/bank_line.html", _context(line, part_form=form), status=422)
    bank_matching.give_back(line_id=pk, actor=_actor(request), now=timezone.now(), **form.cleaned_data)
    messages.success(request, "It is listed as money to send back.")
    return redirect("billing:bank-line", account, pk)


@require_POST
def bank_set_aside(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    line = _line(pk)
    form = AsideForm(request.POST, prefix="aside")
    if not form.is_valid():
        return render(request, "billing/bank_line.html", _context(line, aside_form=form), status=422)
    bank_matching.set_aside(line_id=pk, actor=_actor(request), now=timezone.now(), **form.cleaned_data)
    messages.success(request, "It is set aside as no payment of a customer's.")
    return redirect("billing:bank", account)


@require_http_methods(["GET", "HEAD", "POST"])
def bank_undo(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """A match was wrong: what taking it back does, and then that."""
    roles.require_staff(request.user)
    match = get_object_or_404(BankMatch.objects.select_related("line", "transfer", "undo"), pk=pk)
    payment = Payment.objects.filter(gateway=NAME, pk=match.transfer.key).first() if match.transfer else None
    form = UndoForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        context = {"match": match, "payment": payment, "form": form, "is_undone": hasattr(match, "undo")}
        return render(request, "billing/bank_undo.html", context, status=422 if form.errors else 200)
    said = {"match_id": pk, "actor": _actor(request), "now": timezone.now()}
    _, is_first = bank_undoing.undo(reason=form.cleaned_data["reason"], **said)
    messages.success(request, "It is undone; the line waits again." if is_first else "Somebody has undone it already.")
    return redirect("billing:bank-line", account, match.line_id)


@require_POST
def bank_sent(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """The money was sent at the bank."""
    roles.require_staff(request.user)
    get_object_or_404(BankReturn, pk=pk)
    is_first = bank_returns.mark_sent(return_id=pk, actor=_actor(request), now=timezone.now())
    messages.success(request, "It is noted as sent." if is_first else "Somebody noted it as sent already.")
    return redirect("billing:bank", account)


def _actor(request: HttpRequest) -> str:
    return f"user:{request.user.pk}"
