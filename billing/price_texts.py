"""Pure. Prices as drafts keep them (JSON) and as staff write them (text).

A tier is a line: `up to | credits | fee`; the fee may be missing, and the last line is up to `rest`:

    1000 | 1.5 | 10
    rest | 1
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing import amounts, pricing

REST = "rest"


def as_row(price: pricing.Price) -> dict[str, Any]:
    """A price as JSON."""
    return {
        "meter": str(price.meter),
        "shape": str(price.shape),
        "amount_ucr": price.amount_ucr,
        "per": str(price.per),
        "minimum_ucr": price.minimum_ucr,
        "tiers": [
            {
                "up_to": None if tier.up_to is None else str(tier.up_to),
                "amount_ucr": tier.amount_ucr,
                "fee_ucr": tier.fee_ucr,
            }
            for tier in price.tiers
        ],
        "name": price.name,
        "unit": price.unit,
    }


def of_row(row: Mapping[str, Any]) -> pricing.Price:
    """The price that as_row wrote."""
    tiers = tuple(
        pricing.Tier(None if tier["up_to"] is None else Decimal(tier["up_to"]), tier["amount_ucr"], tier["fee_ucr"])
        for tier in row["tiers"]
    )
    return pricing.Price(
        meter=row["meter"],
        shape=pricing.Shape(row["shape"]),
        amount_ucr=row["amount_ucr"],
        per=Decimal(row["per"]),
        minimum_ucr=row["minimum_ucr"],
        tiers=tiers,
        name=row["name"],
        unit=row["unit"],
    )


def credits_or_zero(text: str) -> int:
    """Micro-credits from credits, zero among them; raises ValueError with a sentence."""
    if amounts.CREDITS.fullmatch(text) and not Decimal(text):
        return 0
    return amounts.parse_credits(text)


def parse_tiers(text: str) -> tuple[pricing.Tier, ...]:
    """Tiers, a line each; raises ValueError with a sentence that names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(_tier(line))
            except ValueError as wrong:
                raise ValueError(f"Line {number}: {wrong}") from wrong
    return tuple(found)


def _tier(line: str) -> pricing.Tier:
    parts = [part.strip() for part in line.split("|")]
    if len(parts) not in (2, 3):
        raise ValueError("write `up to | credits` or `up to | credits | fee`.")
    up_to = None if parts[0].lower() == REST else amounts.parse_quantity(parts[0])
    fee = credits_or_zero(parts[2]) if len(parts) == 3 else 0
    return pricing.Tier(up_to, credits_or_zero(parts[1]), fee)


def tiers_text(tiers: tuple[pricing.Tier, ...]) -> str:
    """What parse_tiers reads."""
    return "\n".join(_line(tier) for tier in tiers)


def _line(tier: pricing.Tier) -> str:
    up_to = REST if tier.up_to is None else amounts.plain_quantity(tier.up_to)
    fee = f" | {amounts.plain(tier.fee_ucr)}" if tier.fee_ucr else ""
    return f"{up_to} | {amounts.plain(tier.amount_ucr)}{fee}"
