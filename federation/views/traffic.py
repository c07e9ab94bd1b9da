"""Pages of messages and dead letters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages as notes
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.models import Account
from federation import attempts, bus, coordination, dependencies, pages
from federation.message_forms import MessageFilter, MessageForm, names
from federation.models import Agent, DeadLetter, Federation, Message
from federation.models.traffic import MESSAGE_TYPES, OUTCOMES
from federation.views.shared import editors_only, one, one_to_edit, tab

LETTERS = 10


@require_http_methods(["GET", "HEAD", "POST"])
def message_list(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    if request.method == "POST":
        return _send(request, account, federation)
    return _page(request, federation, MessageForm(federation=federation))


@editors_only
def _send(request: HttpRequest, account: Account, federation: Federation) -> HttpResponse:
    one_to_edit(request, account, federation.pk)
    form = MessageForm(request.POST, federation=federation)
    if form.is_valid():
        asked = form.cleaned_data
        draft = bus.Draft(
            sender=asked["sender"],
            recipient=asked["recipient"],
            type=asked["type"],
            payload=asked["payload"],
            ttl_seconds=asked["ttl_seconds"],
            priority=asked["priority"],
        )
        try:
            receipt = bus.send(federation=federation, draft=draft, now=timezone.now())
        except bus.REFUSALS as refused:
            form.add_error(None, str(refused))
        else:
            notes.success(request, f"Sent to {receipt.recipients}, over {receipt.hops} links at most.")
            return redirect("federation:messages", account, federation.pk)
    return _page(request, federation, form, status=422)


@require_safe
def agent_names(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    """What an input of the page offers while one types in it; `of` is its name."""
    federation = one(request, account, pk)
    typed = request.GET.get(request.GET.get("of", ""), "")
    return render(request, "federation/_agent_names.html", {"names": names(federation, typed)})


def _page(request: HttpRequest, federation: Federation, form: MessageForm, status: int = 200) -> HttpResponse:
    filters = MessageFilter(request.GET, federation=federation)
    page = pages.newest(filters.narrow(Message.objects.filter(federation=federation)), request)
    letters = DeadLetter.objects.filter(federation=federation)
    latest = list(letters.select_related("task", "agent").order_by("-created_at", "-pk")[:LETTERS])
    known = _names_of(page.results, latest)
    for message in page.results:
        message.from_name = known.get(message.sender, "?")
        message.to_name = known.get(message.recipient, "?") if message.recipient else "everyone"
    shown: dict[str, Any] = {
        "page": page,
        "form": form,
        "filters": filters,
        "types": MESSAGE_TYPES,
        "outcomes": OUTCOMES,
        "accounts_of_messages": _accounting(federation),
        "letters": _named(latest, known),
        "letters_waiting": letters.filter(replayed_at=None).count(),
        "has_agents": Agent.objects.linked().filter(federation=federation)[:2].count() > 1,
    }
    return tab(request, federation, "messages", shown, part="_message_table", status=status)


def _names_of(messages: list[Message], letters: list[DeadLetter]) -> dict[UUID, str]:
    """Of those the page speaks of, whether they left or not."""
    spoken_of = {message.sender for message in messages} | {message.recipient for message in messages}
    spoken_of |= {UUID(letter.message["from"]) for letter in letters if letter.message is not None}
    return dict(Agent.objects.filter(pk__in=spoken_of - {None}).values_list("pk", "name"))


def _named(letters: list[DeadLetter], known: dict[UUID, str]) -> list[DeadLetter]:
    for letter in letters:
        if letter.message is not None:
            letter.from_name = known.get(UUID(letter.message["from"]), "?")
    return letters


def _accounting(federation: Federation) -> bus.Accounting | None:
    try:
        return bus.accounting(federation=federation, now=timezone.now())
    except bus.BusUnavailable:
        return None


@require_POST
@editors_only
def letter_replay(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    rows = DeadLetter.objects.editable_by(request.user).select_related("federation", "task")
    letter = get_object_or_404(rows, federation__account=account, pk=pk)
    try:
        coordination.replay(letter=letter, now=timezone.now())
        notes.success(request, "It goes on.")
    except (*bus.REFUSALS, coordination.Replayed, attempts.TaskSettled, dependencies.NeedsAnother) as refused:
        notes.warning(request, str(refused))
    return redirect("federation:messages", account, letter.federation_id)


@require_POST
@editors_only
def letters_replay(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one_to_edit(request, account, pk)
    found = coordination.replay_all(federation=federation, now=timezone.now())
    if found.refused:
        total = found.replayed + found.refused
        why = "The others cannot: an agent of theirs left or is lost, or its inbox is full."
        notes.warning(request, f"{found.replayed} of {total} go on. {why}")
    else:
        notes.success(request, f"{found.replayed} go on.")
    return redirect("federation:messages", account, federation.pk)
