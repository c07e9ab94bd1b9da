"""Cards that Stripe keeps for an account: a page to give one on, what became of it, and forgetting what was removed.

    created (committed)  ->  Stripe  ->  open  ->  the customer gives a card there  ->  kept | closed

Believed by asking: when the customer comes back, soon after a webhook, and by the sweep, which asks 5 s after the last
word, then 10, 20, 40 .. up to an hour apart. A page that nobody gave a card on is closed after a day; one that Stripe
never opened is given up after ten minutes, and nobody was sent to it. Whoever hears first keeps the card, once.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.urls import reverse

from billing import intents, ledger, methods, payment_states
from billing.gateways import AnswerLost, NotFound, Refused, registry, stripe_cards
from billing.gateways.stripe_card_answers import Page, PageState
from billing.models import Account, CardSetup, PaymentMethod, StripeCustomer

GATEWAY = "stripe"
BATCH = 50
# A slow Stripe must not keep a sweep from ending; the rest is asked in the next.
MOST_SECONDS = 15.0
FORGET_AGAIN = timedelta(hours=1)
# What Stripe refuses a page with whose customer it does not have.
NO_SUCH_THING = "resource_missing"
NOT_OPENED = "Stripe did not open its page; no card was kept. Try again."
UNKNOWN_THERE = "Stripe does not know this page any more; no card was kept."
State = CardSetup.State
log = logging.getLogger(__name__)


def is_offered() -> bool:
    return GATEWAY in registry.names()


def open_setup(
    *, account: Account, key: str, now: datetime, label: str = "", is_default: bool = False, actor: str = "",
    request_id: str = "",
) -> CardSetup:  # fmt: skip
    """A page to give a card on; the same key again is the same page. `created` while Stripe's answer is lost.

    Raises UnknownGateway, ClosedAccount, TooManyMethods, KeyReused.
    """
    registry.named(GATEWAY)
    fingerprint = ledger.fingerprint("card", label, is_default)
    asked = {"label": label, "is_default": is_default, "actor": actor, "request_id": request_id}
    times = {"created_at": now, "ask_at": now + payment_states.SENT_BY}
    try:
        # Committed before Stripe hears of it.
        with transaction.atomic(durable=True):
            setup = CardSetup.objects.create(account=account, key=key, request_hash=fingerprint, **asked, **times)
            if Account.objects.filter(pk=account.pk, status=Account.Status.CLOSED).exists():
                raise intents.ClosedAccount
            methods.check_room(account)
    except IntegrityError:
        before = CardSetup.objects.get(account=account, key=key)
        if before.request_hash != fingerprint:
            raise ledger.KeyReused(key) from None
        return before
    with suppress(AnswerLost):
        return ask(setup=setup, now=now)
    return setup


def ask(*, setup: CardSetup, now: datetime) -> CardSetup:
    """What became of a page, asked now. Raises AnswerLost, UnknownGateway."""
    if setup.has_ended:
        return setup
    cards = registry.stripe().cards
    if setup.session_id is None and payment_states.never_arrived(created_at=setup.created_at, now=now):
        return _close(setup, NOT_OPENED, now)
    try:
        page = _page(cards, setup, now)
    except Refused as no:
        if no.reason == NO_SUCH_THING:  # the customer is gone there; the next page gets a new one
            named = (setup.params or {}).get("customer")
            StripeCustomer.objects.filter(account=setup.account_id, customer_id=named).delete()
        return _close(setup, str(no), now)
    except NotFound:
        return _close(setup, UNKNOWN_THERE, now)
    return hear(setup_id=setup.pk, page=page, now=now)


def _page(cards: stripe_cards.Cards, setup: CardSetup, now: datetime) -> Page:
    if setup.session_id is None:
        return cards.open(_params(cards, setup), key=str(setup.pk))
    page = cards.fetch(setup.session_id)
    lapsed = payment_states.action_lapsed(created_at=setup.created_at, now=now)
    return cards.close(page.ref) if page.state == PageState.OPEN and lapsed else page


def _params(cards: stripe_cards.Cards, setup: CardSetup) -> dict[str, object]:
    """As they were asked with first, which is what Stripe knows the key by."""
    if setup.params is None:
        made = stripe_cards.params(
            customer=_customer(cards, setup),
            reference=str(setup.pk),
            currency=settings.CREDIT_CURRENCY,
            return_url=settings.BASE_URL + reverse("billing:card-setup-returned", args=[setup.account, setup.pk]),
        )
        CardSetup.objects.filter(pk=setup.pk, params__isnull=True).update(params=made)
        setup.refresh_from_db()
    found: dict[str, object] = setup.params
    return found


def _customer(cards: stripe_cards.Cards, setup: CardSetup) -> str:
    """Who the account is at Stripe; the first name stays."""
    mine = {"account_id": setup.account_id}
    found = StripeCustomer.objects.filter(**mine).first()
    if found is not None:
        return str(found.customer_id)
    named = cards.customer(str(setup.account_id), key=str(setup.pk))
    try:
        with transaction.atomic():
            return str(StripeCustomer.objects.get_or_create(**mine, defaults={"customer_id": named})[0])
    except IntegrityError as taken:
        raise AnswerLost("Stripe names another account's customer.") from taken


@transaction.atomic
def hear(*, setup_id: UUID, page: Page, now: datetime) -> CardSetup:
    """Write down what Stripe says; the card is kept with it. Raises AnswerLost for what is about something else."""
    setup = CardSetup.objects.select_for_update(of=("self",)).select_related("account").get(pk=setup_id)
    if setup.has_ended:
        return setup
    if not _is_about(setup, page):
        raise AnswerLost("Stripe answered about another page.")
    setup.session_id = page.ref
    if page.state == PageState.CLOSED:
        return _ended(setup, State.CLOSED, now)
    if page.state == PageState.DONE:
        setup.method = _keep(setup, page, now)
        return _ended(setup, State.KEPT, now)
    if setup.state == State.CREATED:
        setup.state, setup.asked_times, setup.ask_at = State.OPEN, 0, now + payment_states.ask_after(0)
    setup.action_url = page.address
    setup.save()
    return setup


def _is_about(setup: CardSetup, page: Page) -> bool:
    asked = setup.params or {}
    mine = (str(setup.pk), asked.get("customer"), setup.session_id or page.ref)
    return (page.reference, page.customer, page.ref) == mine and bool(page.address or page.state != PageState.OPEN)


def _keep(setup: CardSetup, page: Page, now: datetime) -> PaymentMethod:
    assert page.card is not None
    said = {"gateway": GATEWAY, "token": page.card.token, "card": page.card}
    wishes = {"label": setup.label, "is_default": setup.is_default}
    kept: PaymentMethod = methods.add(account=setup.account, now=now, **said, **wishes)
    return kept


def _ended(setup: CardSetup, state: str, now: datetime) -> CardSetup:
    setup.state, setup.ended_at, setup.ask_at, setup.action_url = state, now, None, ""
    setup.save()
    return setup


@transaction.atomic
def _close(setup: CardSetup, why: str, now: datetime) -> CardSetup:
    current = CardSetup.objects.select_for_update(of=("self",)).select_related("account").get(pk=setup.pk)
    if current.has_ended or current.session_id != setup.session_id:
        return current
    current.failure_message = why[:300]
    return _ended(current, State.CLOSED, now)


def hurry(*, ref: str, now: datetime) -> bool:
    """A webhook says that something became of a page: it is asked about next. False for one that is not ours."""
    mine = CardSetup.objects.filter(session_id=ref)
    mine.filter(ask_at__gt=now).update(ask_at=now)
    return mine.exists()


def is_due(*, now: datetime) -> bool:
    return _due(now).exists() or _to_forget(now).exists()


def sweep(*, now: datetime) -> int:
    """Ask about every page that is due, and have removed cards forgotten; returns how many were asked about."""
    started, done = time.monotonic(), 0
    for each in [*_due(now)[:BATCH], *_to_forget(now)[:BATCH]]:
        if time.monotonic() - started > MOST_SECONDS:
            break
        try:
            done += _again(each, now) if isinstance(each, CardSetup) else _forget(each, now)
        except (AnswerLost, registry.UnknownGateway) as lost:
            log.warning("Stripe does not say what became of %s %s: %s", type(each).__name__, each.pk, lost)
    return done


def _due(now: datetime) -> QuerySet[CardSetup]:
    return CardSetup.objects.select_related("account").filter(ask_at__lte=now).order_by("ask_at", "pk")


def _to_forget(now: datetime) -> QuerySet[PaymentMethod]:
    return PaymentMethod.objects.filter(forget_at__lte=now).order_by("forget_at", "pk")


def _again(setup: CardSetup, now: datetime) -> bool:
    """Only one asks, and the next time is set before, so that a crash costs a wait and never the question."""
    again = now + payment_states.ask_after(setup.asked_times + 1)
    mine = CardSetup.objects.filter(pk=setup.pk, ask_at=setup.ask_at)
    if not mine.update(ask_at=again, asked_times=F("asked_times") + 1):
        return False
    setup.refresh_from_db()
    ask(setup=setup, now=now)
    return True


def _forget(method: PaymentMethod, now: datetime) -> bool:
    mine = PaymentMethod.objects.filter(pk=method.pk)
    if not mine.filter(forget_at=method.forget_at).update(forget_at=now + FORGET_AGAIN):
        return False
    registry.stripe().cards.forget(method.token.rpartition(":")[2])
    mine.update(forget_at=None)
    return True
