"""Pure. Amounts as people and programs write them: credits as micro-credits, money as minor units.

One credit is 1,000,000 micro-credits (`*_ucr`, an int). Money is an int of the currency's smallest unit.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

UCR = 1_000_000
MAX_CREDITS = 10**9
MAX_UCR = MAX_CREDITS * UCR
MAX_QUANTITY = Decimal(10) ** 18
CREDITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?|1000000000(\.0{1,6})?")
QUANTITY = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?|1000000000000000000(\.0{1,9})?")
MONEY = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?")
# Digits after the point where they are not two (ISO 4217).
EXPONENTS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
# The default context rounds at 28 digits; quantities have up to 38.
WIDE = Context(prec=60)


def parse_credits(text: object) -> int:
    """Micro-credits from a decimal string of credits; raises ValueError with a sentence."""
    if not isinstance(text, str) or not CREDITS.fullmatch(text):
        raise ValueError('Send a decimal string of credits with at most six places, for example "12.500000".')
    ucr = int(WIDE.multiply(Decimal(text), UCR))
    if not 0 < ucr <= MAX_UCR:
        raise ValueError(f"Must be more than 0 and at most {MAX_CREDITS} credits.")
    return ucr


def parse_quantity(text: object) -> Decimal:
    """A quantity above zero from a decimal string; raises ValueError with a sentence."""
    if not isinstance(text, str) or not QUANTITY.fullmatch(text):
        raise ValueError('Send a decimal string with at most nine places, for example "2.5".')
    quantity = Decimal(text)
    if not 0 < quantity <= MAX_QUANTITY:
        raise ValueError("Must be more than 0 and at most 10^18.")
    return quantity


def six_places(ucr: int) -> str:
    """Micro-credits as credits with all six places: 12500000 -> 12.500000."""
    sign = "-" if ucr < 0 else ""
    whole, rest = divmod(abs(ucr), UCR)
    return f"{sign}{whole}.{rest:06d}"


def plain(ucr: int) -> str:
    """Micro-credits as credits without trailing zeros: 12500000 -> 12.5."""
    return six_places(ucr).rstrip("0").rstrip(".")


def plain_quantity(quantity: Decimal) -> str:
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def half_even(value: Fraction) -> int:
    """The one rounding rule: to the nearest integer, ties to the even one."""
    return round(value)


def exponent(currency: str) -> int:
    return EXPONENTS.get(currency, 2)


def money_of_ucr(ucr: int, *, credit_price: str, currency: str) -> int:
    """What micro-credits cost, in minor units of the currency."""
    return half_even(Fraction(ucr, UCR) * Fraction(credit_price) * 10 ** exponent(currency))


def price_of_ucr(ucr: int, *, credit_price: str, currency: str) -> int:
    """What buying micro-credits costs: rounded up, so that nobody saves by buying in small pieces."""
    exact: Fraction = Fraction(ucr, UCR) * Fraction(credit_price) * 10 ** exponent(currency)
    return math.ceil(exact)


def parse_money(text: object, currency: str) -> int:
    """Minor units above zero from a decimal string of the currency; raises ValueError with a sentence."""
    places = exponent(currency)
    wanted = MONEY if places else re.compile("[0-9]{1,12}")
    if not isinstance(text, str) or not wanted.fullmatch(text) or len(text.partition(".")[2]) > places:
        raise ValueError(
            f"Send a decimal string with at most {places} places, for example {money_text(1250, currency)}."
        )
    minor = int(WIDE.multiply(Decimal(text), 10**places))
    if minor <= 0:
        raise ValueError("Must be more than 0.")
    return minor


def money_text(minor: int, currency: str) -> str:
    """Minor units as the currency writes them: 1250 EUR -> 12.50."""
    step = Decimal(1).scaleb(-exponent(currency))
    return f"{Decimal(minor).scaleb(-exponent(currency)).quantize(step, ROUND_HALF_EVEN, WIDE):f}"


def exact_money_text(amount: Fraction, currency: str) -> str:
    """A price in major units with at least the currency's places, and more where it needs them."""
    exact = WIDE.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    text = f"{exact.quantize(Decimal('1e-12'), context=WIDE):f}"
    whole, _, places = text.partition(".")
    places = places.rstrip("0").ljust(exponent(currency), "0")
    return f"{whole}.{places}" if places else whole


def usdc_text(units: int) -> str:
    """Atomic units of USDC, a millionth each, as people write them: 12500000 -> 12.50"""
    whole, rest = divmod(units, 10**6)
    return f"{whole}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"
