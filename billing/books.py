"""Price books in the database: which price an account pays for a meter at a moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from billing import pricing
from billing.models import Price, PriceBook

# The book everybody starts with holds from before the first event.
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


class BadPrices(Exception):
    """Raised for a price book that could not be charged by."""

    code = "validation_error"


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


def _valid(account_id: UUID, at: datetime):  # type: ignore[no-untyped-def]  # a queryset of Price
    mine = Q(book__account=account_id) | Q(book__account=None)
    return Price.objects.filter(mine, book__valid_from__lte=at).select_related("book")


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
