from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing, statements
from billing.statements import Used

UCR = 1_000_000


def used(meter, quantity, credits):
    return Used(pricing.default_price(meter), Decimal(quantity), int(credits * UCR))


def state(*lines, due=0, tax_rate="0", **changes):
    wanted = {"credit_price": "0.01", "currency": "EUR"} | changes
    return statements.state(lines, due_ucr=int(due * UCR), tax_rate=Decimal(tax_rate), **wanted)


def test_a_statement_has_one_line_for_each_meter_at_the_price_people_know():
    found = state(used("sandbox_second", 7200, 200), used("mcp_call", 5, 5))

    assert [(line.meter, line.quantity, line.unit, line.amount) for line in found.lines] == [
        ("sandbox_second", Decimal(7200), "second", 200),
        ("mcp_call", Decimal(5), "call", 5),
    ]
    assert (found.lines[0].unit_price, found.lines[0].per, found.lines[0].per_unit) == ("1.00", Decimal(3600), "hour")


def test_what_credits_covered_is_not_due():
    found = state(used("mcp_call", 500, 500))

    assert (found.total, found.credits_applied, found.amount_due) == (500, 500, 0)


def test_what_was_drawn_on_the_overdraft_is_due_with_its_tax():
    found = state(used("mcp_call", 1000, 1000), due=400, tax_rate="0.19")

    assert (found.subtotal, found.tax, found.total) == (1000, 190, 1190)
    assert (found.amount_due, found.credits_applied) == (476, 714)


def test_credits_cover_nothing_where_all_is_due_however_its_lines_are_rounded():
    """Two lines of 0.6 cents are two cents, and 1.2 cents that are owed would be one."""
    found = state(used("mcp_call", "0.6", 0.6), used("inference", "0.06", 0.6), due=1.2)

    assert (found.total, found.credits_applied, found.amount_due) == (2, 0, 2)


def test_nothing_used_is_a_statement_of_nothing():
    found = state()

    assert (found.lines, found.total, found.amount_due) == ((), 0, 0)


LINES = st.lists(
    st.builds(
        lambda meter, ucr: Used(pricing.default_price(meter), Decimal(1), ucr),
        st.sampled_from(list(pricing.Meter)),
        st.integers(0, 10**13),
    ),
    max_size=6,
)


@given(LINES, st.integers(0, 10**14), st.decimals(0, 1, places=4), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_lines_sum_to_the_total_and_the_total_splits_into_applied_and_due(lines, due_ucr, tax_rate, currency):
    found = statements.state(lines, due_ucr=due_ucr, tax_rate=tax_rate, credit_price="0.0123", currency=currency)

    assert found.subtotal == sum(line.amount for line in found.lines)
    assert found.total == found.subtotal + found.tax
    assert found.amount_due + found.credits_applied == found.total
    assert 0 <= found.amount_due <= found.total


@pytest.mark.parametrize(
    ("debt", "later", "drawn", "owed"),
    [(100, 0, 100, 100), (40, 0, 100, 40), (100, 60, 100, 40), (50, 60, 100, 0), (300, 0, 100, 100), (0, 0, 100, 0)],
)
def test_repayments_settle_the_oldest_debt_first(debt, later, drawn, owed):
    assert statements.still_owed(debt_ucr=debt, drawn_later_ucr=later, drawn_ucr=drawn) == owed
