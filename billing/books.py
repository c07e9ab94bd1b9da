"""Price books in the database: which price an account pays for a meter at a moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q, QuerySet

from billing import pricing
from billing.models import Price, PriceBook

# The book everybody starts with holds from before the first event.
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


class BadPrices(Exception):
    """Raised for a price book that could not be charged by."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"prices": [str(self)]}}


def price_of(*, account_id: UUID, meter: str, at: datetime) -> Price:
    """The account's own price, else everybody's; of the newest book that has begun."""
    found = _valid(account_id, at).filter(meter=meter).order_by(*_CLOSEST).first()
    if found is not None:
        return found
    pricing.default_price(meter)  # refuses a meter that does not exist
    publish_default()
    return _valid(account_id, at).filter(meter=meter).order_by(*_CLOSEST)[0]


def prices_of(*, account_id: UUID, at: datetime) -> list[Price]:
    """One price for each meter, in the order people know."""
    publish_default()
    by_meter: dict[str, Price] = {}
    for price in _valid(account_id, at).order_by(*_CLOSEST):
        by_meter.setdefault(price.meter, price)
    return [by_meter[meter] for meter in pricing.Meter if meter in by_meter]


_CLOSEST = (F("book__account").asc(nulls_last=True), "-book__valid_from")


def _valid(account_id: UUID | None, at: datetime) -> QuerySet[Price]:
    mine = Q(book__account=account_id) | Q(book__account=None)
    begun = Price.objects.filter(mine, book__valid_from__lte=at).exclude(book__valid_until__lte=at)
    return begun.select_related("book")


def history(*, account_id: UUID) -> dict[str, list[Price]]:
    """Meter -> every price the account has or had or will have, in the order in which the first that holds is its."""
    publish_default()
    found: dict[str, list[Price]] = {}
    mine = Q(book__account=account_id) | Q(book__account=None)
    for price in Price.objects.filter(mine).select_related("book").order_by(*_CLOSEST):
        found.setdefault(price.meter, []).append(price)
    return found


def everybodys(*, at: datetime) -> dict[str, Price]:
    """Meter -> the price of who has none of its own."""
    publish_default()
    return {price.meter: price for price in _valid(None, at).order_by("book__valid_from")}


def overrides(*, at: datetime) -> dict[tuple[UUID, str], Price]:
    """(Account, meter) -> the account's own price."""
    own = Price.objects.filter(book__account__isnull=False, book__valid_from__lte=at).exclude(book__valid_until__lte=at)
    rows = own.select_related("book").order_by("book__valid_from")
    return {(price.book.account_id, price.meter): price for price in rows if price.book.account_id is not None}


def publish_default() -> None:
    """Write the specification's prices as version 1 of everybody's book, once."""
    if not PriceBook.objects.filter(account=None, version=1).exists():
        publish(name="Standard prices", version=1, prices=pricing.DEFAULT_BOOK.values(), valid_from=BEGINNING)


@transaction.atomic
def publish(
    *,
    name: str,
    version: int,
    prices: Iterable[pricing.Price],
    valid_from: datetime,
    account_id: UUID | None = None,
) -> PriceBook:
    """Write a book; the same version again answers the one that is there."""
    wanted = list(prices)
    wrong = [f"{price.meter}: {sentence}" for price in wanted for sentence in pricing.problems(price)]
    if wrong:
        raise BadPrices(" ".join(wrong))
    made = {"name": name, "valid_from": valid_from, "created_at": valid_from}
    book, is_new = PriceBook.objects.get_or_create(account_id=account_id, version=version, defaults=made)
    if is_new:
        Price.objects.bulk_create(_row(book, price) for price in wanted)
    return book


@transaction.atomic
def publish_next(
    *, name: str, prices: Iterable[pricing.Price], valid_from: datetime, now: datetime, account_id: UUID | None = None,
    actor: str = "",
) -> PriceBook:  # fmt: skip
    """Write the next version of everybody's book, or of an account's own, from now on or later. Raises BadPrices."""
    wanted = list(prices)
    wrong = [f"{price.meter}: {sentence}" for price in wanted for sentence in pricing.problems(price)]
    if not wanted:
        wrong = ["A book needs a price."]
    if account_id is None and {price.meter for price in wanted} != set(pricing.Meter):
        wrong.append("Everybody's book needs a price for each meter.")
    if valid_from < now:
        wrong.append("Prices hold from now on or later: what was used before is charged already.")
    if wrong:
        raise BadPrices(" ".join(wrong))
    publish_default()
    last = PriceBook.objects.filter(account=account_id).aggregate(last=Max("version"))["last"] or 0
    said = {"name": name, "version": last + 1, "valid_from": valid_from, "actor": actor, "created_at": now}
    try:
        with transaction.atomic():
            book = PriceBook.objects.create(account_id=account_id, **said)
    except IntegrityError as taken:
        raise BadPrices("Another book begins at that very moment, or was published just now. Try again.") from taken
    Price.objects.bulk_create(_row(book, price) for price in wanted)
    return book


@transaction.atomic
def end(*, book_id: UUID, at: datetime, now: datetime) -> PriceBook:
    """An account's own prices hold no longer than this moment, from which everybody's do again. Raises BadPrices."""
    book = PriceBook.objects.select_for_update().get(pk=book_id)
    if book.account_id is None:
        raise BadPrices("Everybody's book ends when the next one begins.")
    if book.valid_until is not None:
        raise BadPrices("This book ends already.")
    if at < now:
        raise BadPrices("A book ends now or later: what was used before is charged already.")
    book.valid_until = max(at, book.valid_from)
    book.save(update_fields=["valid_until"])
    return book


def _row(book: PriceBook, price: pricing.Price) -> Price:
    tiers = [
        {
            "up_to": None if tier.up_to is None else str(tier.up_to),
            "amount_ucr": tier.amount_ucr,
            "fee_ucr": tier.fee_ucr,
        }
        for tier in price.tiers
    ]
    return Price(
        book=book,
        meter=price.meter,
        shape=price.shape,
        amount_ucr=price.amount_ucr,
        per=price.per,
        minimum_ucr=price.minimum_ucr,
        tiers=tiers,
        name=price.name,
        unit=price.unit,
    )
