"""Drafts of price books: written and changed by staff, thrown away, or published as a book that never changes again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing import books, price_texts, pricing
from billing.models import Account, PriceBook, PriceDraft


class DraftChanged(Exception):
    """Raised when somebody else changed or published the draft first."""

    code = "conflict"
    extras = {"state": "changed"}

    def __init__(self) -> None:
        super().__init__("Somebody changed, published or discarded this draft meanwhile. Look at it again first.")


def start(*, account: Account | None, now: datetime, actor: str = "") -> PriceDraft:
    """A draft of everybody's next book, with the prices of now; or of an account's own, which begins empty."""
    prices = [] if account else [price.rule() for price in books.everybodys(at=now).values()]
    return PriceDraft.objects.create(
        name=f"Prices of {account}"[:80] if account else "Standard prices",
        account=account,
        prices=[price_texts.as_row(price) for price in prices],
        actor=actor,
        created_at=now,
        changed_at=now,
    )


def prices_of(draft: PriceDraft) -> list[pricing.Price]:
    return [price_texts.of_row(row) for row in draft.prices]


def save(
    *, draft_id: UUID, name: str, prices: Iterable[pricing.Price], version: int, now: datetime, actor: str = ""
) -> None:
    """Change a draft that is still at this version. Raises DraftChanged, books.BadPrices."""
    wanted = list(prices)
    wrong = [f"{price.meter}: {sentence}" for price in wanted for sentence in pricing.problems(price)]
    if wrong:
        raise books.BadPrices(" ".join(wrong))
    changed = PriceDraft.objects.filter(pk=draft_id, version=version).update(
        name=name,
        prices=[price_texts.as_row(price) for price in wanted],
        version=version + 1,
        actor=actor,
        changed_at=now,
    )
    if not changed:
        raise DraftChanged


@transaction.atomic
def publish(*, draft_id: UUID, version: int, valid_from: datetime, now: datetime, actor: str = "") -> PriceBook:
    """Make a book of the draft at this version. Raises DraftChanged, books.BadPrices."""
    draft = PriceDraft.objects.select_for_update().filter(pk=draft_id, version=version).first()
    if draft is None:
        raise DraftChanged
    book = books.publish_next(
        name=draft.name,
        prices=prices_of(draft),
        valid_from=valid_from,
        now=now,
        account_id=draft.account_id,
        actor=actor,
    )
    draft.delete()
    return book


def discard(*, draft_id: UUID) -> None:
    PriceDraft.objects.filter(pk=draft_id).delete()
