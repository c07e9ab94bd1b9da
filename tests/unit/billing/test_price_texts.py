from decimal import Decimal

import pytest

from billing import price_texts, pricing
from billing.pricing import Price, Shape, Tier

TIERS = (Tier(Decimal(1000), 1_500_000, 10_000_000), Tier(None, 0))


def test_tiers_are_read_as_they_are_written():
    text = price_texts.tiers_text(TIERS)

    assert text == "1000 | 1.5 | 10\nrest | 0"
    assert price_texts.parse_tiers(text) == TIERS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1000", "Line 1: write"),
        ("rest | 1\n\n5 | x", "Line 3: Send a decimal string of credits"),
        ("-5 | 1", "Line 1: Send a decimal string with at most nine places"),
        ("0 | 1", "Must be more than 0"),
        ("1 | NaN", "decimal string"),
        ("1 | 0.0000001", "six places"),
        ("1 | 9999999999", "decimal string"),
        ("1 | 2 | 3 | 4", "write"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(text, says):
    with pytest.raises(ValueError, match=says):
        price_texts.parse_tiers(text)


@pytest.mark.parametrize(
    "price", [*pricing.DEFAULT_BOOK.values(), Price("mcp_call", Shape.VOLUME, per=Decimal(2), tiers=TIERS)]
)
def test_a_price_comes_back_as_it_was_kept(price):
    assert price_texts.of_row(price_texts.as_row(price)) == price
