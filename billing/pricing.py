"""Pure. What usage costs: the shapes of a price, the default price book, the one way to round.

shape       price of a total quantity q (amounts in micro-credits)
per_unit    amount * q / per
package     amount * ceil(q / per)
graduated   each tier's part at that tier's rate, plus the fee of every tier entered
volume      all of q at the rate of the tier it falls in, plus that tier's fee
flat        amount, once, as soon as anything is used
minimum     any of these, but at least `minimum_ucr` once anything is used

Rounding is cumulative: a charge is `round(price(total so far)) - what was charged before`, so that
however usage is split, it costs the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from billing.amounts import UCR, half_even


class Meter(StrEnum):
    MCP_CALL = "mcp_call"
    SANDBOX_SECOND = "sandbox_second"
    INFERENCE = "inference"
    DATA_BYTE = "data_byte"
    API_CALL = "api_call"
    AGENT_SECOND = "agent_second"


# What one of the meter is called.
UNITS: dict[str, str] = {
    Meter.MCP_CALL: "call",
    Meter.SANDBOX_SECOND: "second",
    Meter.INFERENCE: "inference",
    Meter.DATA_BYTE: "byte",
    Meter.API_CALL: "call",
    Meter.AGENT_SECOND: "second",
}


class Shape(StrEnum):
    PER_UNIT = "per_unit"
    PACKAGE = "package"
    GRADUATED = "graduated"
    VOLUME = "volume"
    FLAT = "flat"


class UnknownMeter(Exception):
    """Raised for a meter the price book does not have."""

    code = "validation_error"

    def __init__(self, meter: str) -> None:
        self.meter = meter
        super().__init__(f"There is no meter {meter!r}. Meters are {', '.join(Meter)}.")

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"meter": [str(self)]}}


@dataclass(frozen=True)
class Tier:
    """Quantities up to and including `up_to` (None: without end)."""

    up_to: Decimal | None
    amount_ucr: int
    fee_ucr: int = 0


@dataclass(frozen=True)
class Price:
    meter: str
    shape: Shape
    amount_ucr: int = 0
    per: Decimal = Decimal(1)
    minimum_ucr: int = 0
    tiers: tuple[Tier, ...] = ()
    # How people read it: "sandbox time", priced per "hour" of 3600 of the meter's unit.
    name: str = ""
    unit: str = ""

    def exact(self, quantity: Decimal) -> Fraction:
        """The price of a total quantity before rounding, in micro-credits."""
        if quantity <= 0:
            return Fraction(0)
        exact = _SHAPES[self.shape](self, Fraction(quantity))
        return max(exact, Fraction(self.minimum_ucr)) if self.minimum_ucr else exact


def _per_unit(price: Price, quantity: Fraction) -> Fraction:
    # One fraction instead of three: this is done for every event.
    numerator, denominator = price.per.as_integer_ratio()
    return Fraction(quantity.numerator * price.amount_ucr * denominator, quantity.denominator * numerator)


def _package(price: Price, quantity: Fraction) -> Fraction:
    return Fraction(math.ceil(quantity / Fraction(price.per)) * price.amount_ucr)


def _graduated(price: Price, quantity: Fraction) -> Fraction:
    total, floor = Fraction(0), Fraction(0)
    for tier in price.tiers:
        top = quantity if tier.up_to is None else min(quantity, Fraction(tier.up_to))
        total += (top - floor) * tier.amount_ucr / Fraction(price.per) + tier.fee_ucr
        floor = top
        if floor >= quantity:
            break
    return total


def _volume(price: Price, quantity: Fraction) -> Fraction:
    tier = next(tier for tier in price.tiers if tier.up_to is None or quantity <= Fraction(tier.up_to))
    return quantity * tier.amount_ucr / Fraction(price.per) + tier.fee_ucr


def _flat(price: Price, quantity: Fraction) -> Fraction:
    return Fraction(price.amount_ucr)


_SHAPES = {
    Shape.PER_UNIT: _per_unit,
    Shape.PACKAGE: _package,
    Shape.GRADUATED: _graduated,
    Shape.VOLUME: _volume,
    Shape.FLAT: _flat,
}


def problems(price: Price) -> list[str]:
    """What is wrong with a price, as sentences; none when it can be charged."""
    found = []
    if price.amount_ucr < 0 or price.minimum_ucr < 0 or price.per <= 0:
        found.append("Amounts must not be negative and `per` must be above zero.")
    if price.shape in (Shape.GRADUATED, Shape.VOLUME):
        found += _tier_problems(price.tiers)
    elif price.tiers:
        found.append(f"A {price.shape} price has no tiers.")
    return found


def _tier_problems(tiers: tuple[Tier, ...]) -> list[str]:
    if not tiers or tiers[-1].up_to is not None:
        return ["The last tier must be without end."]
    found = []
    tops = [tier.up_to for tier in tiers[:-1]]
    if any(top is None or top <= 0 for top in tops) or sorted(set(tops), key=lambda top: top or 0) != tops:
        found.append("Tiers must end at rising quantities above zero.")
    if any(tier.amount_ucr < 0 or tier.fee_ucr < 0 for tier in tiers):
        found.append("Rates and fees must not be negative.")
    return found


@dataclass(frozen=True)
class Rated:
    """What one more quantity adds: the rated total so far and this step's part of it."""

    total_ucr: int
    step_ucr: int


def rate(price: Price, *, total_quantity: Decimal, rated_before_ucr: int) -> Rated:
    """The step from what was rated before to the price of the whole quantity.

    A volume price may fall when a cheaper tier is reached; the step is then zero, never negative.
    """
    total = max(half_even(price.exact(total_quantity)), rated_before_ucr)
    return Rated(total_ucr=total, step_ucr=total - rated_before_ucr)


HOUR = Decimal(3600)
GIGABYTE = Decimal(10) ** 9
DEFAULT_BOOK: Mapping[str, Price] = {
    price.meter: price
    for price in (
        Price(Meter.MCP_CALL, Shape.PER_UNIT, 1 * UCR, name="MCP calls", unit="call"),
        Price(Meter.SANDBOX_SECOND, Shape.PER_UNIT, 100 * UCR, HOUR, name="Sandbox time", unit="hour"),
        Price(Meter.INFERENCE, Shape.PER_UNIT, 10 * UCR, name="Inferences", unit="inference"),
        Price(Meter.DATA_BYTE, Shape.PER_UNIT, 50 * UCR, GIGABYTE, name="Data transfer", unit="GB"),
        Price(Meter.API_CALL, Shape.PER_UNIT, 20 * UCR, Decimal(1000), name="API calls", unit="1,000 calls"),
        Price(Meter.AGENT_SECOND, Shape.PER_UNIT, 80 * UCR, HOUR, name="Agent time", unit="hour"),
    )
}


def default_price(meter: str) -> Price:
    try:
        return DEFAULT_BOOK[meter]
    except KeyError as unknown:
        raise UnknownMeter(meter) from unknown


def cost_ucr(meter: str, quantity: Decimal) -> int:
    """What a quantity costs by the default price book; what an account pays: rating.cost_now_ucr."""
    return half_even(default_price(meter).exact(quantity))
