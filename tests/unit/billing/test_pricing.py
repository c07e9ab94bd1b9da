from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from billing.pricing import Price, Shape, Tier

UCR = 1_000_000
QUANTITIES = st.decimals("0.000000001", "1000000", places=9)
TIERS = (Tier(Decimal(100), 10 * UCR), Tier(Decimal(1000), 8 * UCR, fee_ucr=5 * UCR), Tier(None, 5 * UCR))


def price(shape, **parts):
    return Price("mcp_call", shape, **parts)


@pytest.mark.parametrize(
    ("meter", "quantity", "credits"),
    [
        ("mcp_call", "1", 1),
        ("sandbox_second", "3600", 100),
        ("inference", "1", 10),
        ("data_byte", "1000000000", 50),
        ("api_call", "1000", 20),
        ("agent_second", "3600", 80),
    ],
)
def test_default_prices_are_those_of_the_specification(meter, quantity, credits):
    assert pricing.cost_ucr(meter, Decimal(quantity)) == credits * UCR


def test_one_api_call_costs_its_share_of_a_thousand():
    assert pricing.cost_ucr("api_call", Decimal(1)) == 20_000


def test_an_unknown_meter_is_refused_by_name():
    with pytest.raises(pricing.UnknownMeter, match="no meter 'minutes'"):
        pricing.cost_ucr("minutes", Decimal(1))


@pytest.mark.parametrize(
    ("shape", "parts", "quantity", "ucr"),
    [
        (Shape.PER_UNIT, {"amount_ucr": 3, "per": Decimal(2)}, "4", 6),
        (Shape.PACKAGE, {"amount_ucr": 7, "per": Decimal(10)}, "10", 7),
        (Shape.PACKAGE, {"amount_ucr": 7, "per": Decimal(10)}, "10.000000001", 14),
        (Shape.FLAT, {"amount_ucr": 9}, "0.000000001", 9),
        (Shape.FLAT, {"amount_ucr": 9}, "1000000", 9),
        (Shape.GRADUATED, {"tiers": TIERS}, "100", 1000 * UCR),
        (Shape.GRADUATED, {"tiers": TIERS}, "101", 1013 * UCR),
        (Shape.GRADUATED, {"tiers": TIERS}, "1001", (1000 + 7200 + 5 + 5) * UCR),
        (Shape.VOLUME, {"tiers": TIERS}, "100", 1000 * UCR),
        (Shape.VOLUME, {"tiers": TIERS}, "200", 1605 * UCR),
        (Shape.PER_UNIT, {"amount_ucr": 1, "minimum_ucr": 50}, "3", 50),
        (Shape.PER_UNIT, {"amount_ucr": 100, "minimum_ucr": 50}, "3", 300),
    ],
)
def test_each_shape_prices_a_total(shape, parts, quantity, ucr):
    assert price(shape, **parts).exact(Decimal(quantity)) == ucr


def test_nothing_used_costs_nothing_even_with_a_minimum():
    assert price(Shape.FLAT, amount_ucr=9, minimum_ucr=50).exact(Decimal(0)) == 0


SHAPES = st.sampled_from(
    [
        price(Shape.PER_UNIT, amount_ucr=80 * UCR, per=Decimal(3600)),
        price(Shape.PACKAGE, amount_ucr=20 * UCR, per=Decimal(1000)),
        price(Shape.GRADUATED, tiers=TIERS),
        price(Shape.FLAT, amount_ucr=5 * UCR),
        price(Shape.PER_UNIT, amount_ucr=1, per=Decimal(7), minimum_ucr=3),
    ]
)


@given(SHAPES, st.lists(QUANTITIES, min_size=1, max_size=12))
def test_any_split_of_the_same_usage_costs_the_same(shape, steps):
    charged, total = 0, Decimal(0)
    for step in steps:
        total += step
        rated = pricing.rate(shape, total_quantity=total, rated_before_ucr=charged)
        charged += rated.step_ucr

    assert charged == pricing.rate(shape, total_quantity=total, rated_before_ucr=0).total_ucr


@given(SHAPES, QUANTITIES, QUANTITIES)
def test_more_usage_never_costs_less(shape, first, more):
    assert shape.exact(first + more) >= shape.exact(first)


def test_a_second_of_agent_time_does_not_lose_its_fraction():
    agent, charged = pricing.default_price("agent_second"), 0
    for second in range(1, 3601):
        charged += pricing.rate(agent, total_quantity=Decimal(second), rated_before_ucr=charged).step_ucr

    assert charged == 80 * UCR


def test_a_volume_price_that_falls_charges_nothing_more_and_gives_nothing_back():
    volume = price(Shape.VOLUME, tiers=(Tier(Decimal(10), 10), Tier(None, 1)))

    rated = pricing.rate(volume, total_quantity=Decimal(11), rated_before_ucr=100)

    assert rated == pricing.Rated(total_ucr=100, step_ucr=0)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (price(Shape.PER_UNIT, amount_ucr=-1), "must not be negative"),
        (price(Shape.PER_UNIT, per=Decimal(0)), "above zero"),
        (price(Shape.GRADUATED), "without end"),
        (price(Shape.VOLUME, tiers=(Tier(Decimal(5), 1),)), "without end"),
        (price(Shape.GRADUATED, tiers=(Tier(Decimal(5), 1), Tier(Decimal(3), 1), Tier(None, 1))), "rising"),
        (price(Shape.GRADUATED, tiers=(Tier(Decimal(5), 1), Tier(Decimal(5), 1), Tier(None, 1))), "rising"),
        (price(Shape.GRADUATED, tiers=(Tier(None, 1), Tier(None, 1))), "rising"),
        (price(Shape.GRADUATED, tiers=(Tier(None, -1),)), "not be negative"),
        (price(Shape.FLAT, tiers=(Tier(None, 1),)), "no tiers"),
    ],
)
def test_a_price_that_cannot_be_charged_is_said_in_words(wrong, sentence):
    assert sentence in " ".join(pricing.problems(wrong))


def test_the_default_book_has_no_problems():
    assert [pricing.problems(each) for each in pricing.DEFAULT_BOOK.values()] == [[]] * len(pricing.Meter)
