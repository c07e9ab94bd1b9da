from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import amounts


@pytest.mark.parametrize(
    ("text", "ucr"),
    [("1", 1_000_000), ("12.5", 12_500_000), ("0.000001", 1), ("1000000000", 10**15), ("007.10", 7_100_000)],
)
def test_credits_are_read_exactly(text, ucr):
    assert amounts.parse_credits(text) == ucr


@pytest.mark.parametrize(
    "given_value",
    [
        "0", "0.000000", "-1", "+1", "1e3", " 1", "1 ", "1\n", "NaN", "Infinity", "", ".5", "5.", "1.0000001",
        "1000000000.000001", "99999999999", "١", "1,5", 1, 1.5, None, True, ["1"],
    ],
)  # fmt: skip
def test_what_is_not_an_amount_is_refused(given_value):
    with pytest.raises(ValueError):
        amounts.parse_credits(given_value)


@pytest.mark.parametrize("given_value", ["0", "0.0000000001", "1.1234567891", "-1", "1e1", "10000000000000000000", 5])
def test_what_is_not_a_quantity_is_refused(given_value):
    with pytest.raises(ValueError):
        amounts.parse_quantity(given_value)


def test_a_quantity_may_have_nine_places():
    assert amounts.parse_quantity("1.123456789") == Decimal("1.123456789")


@given(st.integers(1, 10**15))
def test_credits_survive_being_written_and_read(ucr):
    assert amounts.parse_credits(amounts.six_places(ucr)) == ucr
    assert amounts.parse_credits(amounts.plain(ucr)) == ucr


@pytest.mark.parametrize(
    ("ucr", "text"), [(12_500_000, "12.5"), (2_000_000, "2"), (1, "0.000001"), (0, "0"), (-1_500_000, "-1.5")]
)
def test_plain_credits_carry_no_trailing_zeros(ucr, text):
    assert amounts.plain(ucr) == text


@pytest.mark.parametrize(("currency", "text"), [("EUR", "12.50"), ("JPY", "1250"), ("KWD", "1.250")])
def test_money_has_the_places_of_its_currency(currency, text):
    assert amounts.money_text(1250, currency) == text


@pytest.mark.parametrize(
    ("ucr", "cents"), [(1_000_000, 1), (1_500_000, 2), (2_500_000, 2), (2_500_001, 3), (499_999, 0)]
)
def test_money_is_rounded_half_even(ucr, cents):
    assert amounts.money_of_ucr(ucr, credit_price="0.01", currency="EUR") == cents


def test_a_price_keeps_the_places_it_needs():
    assert amounts.exact_money_text(Fraction(1, 200), "EUR") == "0.005"
    assert amounts.exact_money_text(Fraction(1), "EUR") == "1.00"
    assert amounts.exact_money_text(Fraction(3), "JPY") == "3"


def test_whole_quantities_are_written_without_a_point():
    assert amounts.plain_quantity(Decimal("7200.000000000")) == "7200"
    assert amounts.plain_quantity(Decimal("100")) == "100"
    assert amounts.plain_quantity(Decimal("0.500000000")) == "0.5"


@pytest.mark.parametrize(
    ("ucr", "currency", "minor"),
    [
        (1_000_000_000, "EUR", 1000),
        (1, "EUR", 1),
        (1_000_001, "EUR", 2),
        (1_000_000_000, "JPY", 10),
        (1_000_000, "KWD", 10),
    ],
)
def test_what_is_bought_is_rounded_up(ucr, currency, minor):
    assert amounts.price_of_ucr(ucr, credit_price="0.01", currency=currency) == minor


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=6))
def test_buying_in_pieces_never_saves(pieces):
    def price(ucr):
        return amounts.price_of_ucr(ucr, credit_price="0.01", currency="EUR")

    assert sum(map(price, pieces)) >= price(sum(pieces))


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [("12.50", "EUR", 1250), ("0.01", "EUR", 1), ("7", "EUR", 700), ("1250", "JPY", 1250), ("1.234", "KWD", 1234)],
)
def test_money_is_read_in_minor_units(text, currency, minor):
    assert amounts.parse_money(text, currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [("0", "EUR"), ("-1", "EUR"), ("1.001", "EUR"), ("1.5", "JPY"), ("1e2", "EUR"), ("", "EUR"), (1, "EUR"), ("1 ", "EUR"),
     ("١", "EUR"), ("9" * 13, "EUR")],
)  # fmt: skip
def test_what_is_no_money_is_refused(text, currency):
    with pytest.raises(ValueError):
        amounts.parse_money(text, currency)


@pytest.mark.parametrize(
    ("units", "text"), [(0, "0.00"), (1, "0.000001"), (12_500_000, "12.50"), (10**12, "1000000.00")]
)
def test_usdc_has_at_least_two_places(units, text):
    assert amounts.usdc_text(units) == text
