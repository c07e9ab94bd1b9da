"""Staff's pages of prices: books and their drafts, the editor, what a month would have cost, publishing."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import books, price_drafts, pricing, roles, what_if
from billing.models import Account, PriceBook, PriceDraft
from billing.price_forms import Editor, MonthForm, PublishForm
from billing.views import paging


@require_safe
def price_books(request: HttpRequest, account: Account) -> HttpResponse:
    """Every book, newest first, and the drafts of the next ones."""
    roles.require_staff(request.user)
    now = timezone.now()
    books.publish_default()
    rows = PriceBook.objects.select_related("account").order_by("-valid_from", "-pk")
    standing = {price.book_id for price in books.everybodys(at=now).values()}
    standing |= {price.book_id for price in books.overrides(at=now).values()}
    context = {
        "page": paging.page(request, rows),
        "standing": standing,
        "now": now,
        "drafts": PriceDraft.objects.select_related("account").order_by("-changed_at", "-pk")[:50],
    }
    return render(request, "billing/price_books.html", context)


@require_safe
def price_book(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    book = get_object_or_404(PriceBook.objects.select_related("account"), pk=pk)
    by_meter = {price.meter: price for price in book.prices.all()}
    prices = [by_meter[meter] for meter in pricing.Meter if meter in by_meter]
    can_end = book.account_id is not None and book.valid_until is None
    return render(request, "billing/price_book.html", {"book": book, "prices": prices, "can_end": can_end})


@require_POST
def end_book(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """The account pays everybody's prices again, from now on."""
    roles.require_staff(request.user)
    get_object_or_404(PriceBook, pk=pk)
    now = timezone.now()
    books.end(book_id=pk, at=now, now=now)
    messages.success(request, "The account pays everybody's prices from now on.")
    return redirect("billing:price-book", account, pk)


@require_POST
def draft_new(request: HttpRequest, account: Account) -> HttpResponse:
    """A draft of everybody's next book, or with `own` of this account's."""
    roles.require_staff(request.user)
    owner = account if request.POST.get("own") else None
    draft = price_drafts.start(account=owner, now=timezone.now(), actor=f"user:{request.user.pk}")
    return redirect("billing:price-draft", account, draft.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def price_draft(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """The editor. What is wrong is said beside its field, and nothing of it is kept."""
    roles.require_staff(request.user)
    draft = _draft(pk)
    editor = Editor(draft, request.POST or None)
    if request.method == "POST" and editor.is_valid():
        given = editor.head.cleaned_data
        price_drafts.save(
            draft_id=pk, name=given["name"], prices=editor.prices(), version=given["version"], now=timezone.now(),
            actor=f"user:{request.user.pk}",
        )  # fmt: skip
        messages.success(request, "The draft is saved; nobody pays it yet.")
        return redirect("billing:price-draft", account, pk)
    context = {"draft": draft, "editor": editor, "publish": PublishForm(initial={"version": draft.version})}
    return render(request, "billing/price_draft.html", context, status=422 if request.method == "POST" else 200)


def _draft(pk: UUID) -> PriceDraft:
    return get_object_or_404(PriceDraft.objects.select_related("account"), pk=pk)


@require_safe
def compare(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What a month (the last one, unless asked) would have cost by the draft."""
    roles.require_staff(request.user)
    draft, now = _draft(pk), timezone.now()
    form = MonthForm(request.GET)
    if not form.is_valid():
        raise BadRequest("Choose a month, for example 2026-10.")
    first_day: date = form.cleaned_data["month"] or what_if.last_month(now.date())
    found = what_if.compare(
        prices=price_drafts.prices_of(draft), first_day=first_day, now=now, account_id=draft.account_id
    )
    context = {
        "draft": draft,
        "comparison": found,
        "form": MonthForm(initial={"month": first_day}),
        "meters": [(pricing.DEFAULT_BOOK[meter].name, costs) for meter, costs in found.meters.items()],
        "publish": PublishForm(initial={"version": draft.version}),
    }
    return render(request, "billing/price_compare.html", context)


@require_POST
def publish(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    draft, now = _draft(pk), timezone.now()
    form = PublishForm(request.POST)
    if not form.is_valid():
        raise BadRequest("Say from when the prices hold, or leave it empty for now.")
    try:
        book = price_drafts.publish(
            draft_id=pk, version=form.cleaned_data["version"], valid_from=form.moment(now), now=now,
            actor=f"user:{request.user.pk}",
        )  # fmt: skip
    except books.BadPrices as wrong:
        messages.error(request, str(wrong))
        return redirect("billing:price-draft", account, draft.pk)
    messages.success(request, f"{book.name} {book.version} is published.")
    return redirect("billing:price-book", account, book.pk)


@require_POST
def discard(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    roles.require_staff(request.user)
    price_drafts.discard(draft_id=_draft(pk).pk)
    messages.success(request, "The draft is gone.")
    return redirect("billing:price-books", account)
