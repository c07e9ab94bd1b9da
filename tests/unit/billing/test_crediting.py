import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import crediting
from billing.crediting import Standing, TooMuch

AMOUNTS = st.integers(0, 10_000)


def standing(*lines, tax=0, credited=(), tax_credited=0):
    return Standing(dict(enumerate(lines, 1)), dict(credited), tax, tax_credited)


@pytest.mark.parametrize(
    ("amount", "room", "shares"),
    [
        (10, [5, 5], [5, 5]),
        (10, [1, 2, 7], [1, 2, 7]),
        (1, [1, 1, 1], [1, 0, 0]),
        (2, [1, 1, 1], [1, 1, 0]),
        (0, [], []),
    ],
)
def test_an_amount_is_spread_in_proportion(amount, room, shares):
    assert crediting.spread(amount, room) == shares


@given(st.lists(AMOUNTS, min_size=1, max_size=8), st.integers(0, 80_000))
def test_spreading_gives_all_and_never_beyond_the_room(room, amount):
    amount = min(amount, sum(room))

    shares = crediting.spread(amount, room)

    assert sum(shares) == amount
    assert all(0 <= share <= each for share, each in zip(shares, room, strict=True))


@given(st.lists(AMOUNTS, min_size=1, max_size=6), st.integers(0, 100), st.lists(st.integers(1, 4000), max_size=12))
def test_pieces_together_are_exactly_the_invoice(lines, percent, pieces):
    tax = sum(lines) * percent // 100
    credited, tax_credited, total = {}, 0, 0
    for piece in [*pieces, None]:
        now = standing(*lines, tax=tax, credited=credited, tax_credited=tax_credited)
        if piece is not None and piece > now.left:
            with pytest.raises(TooMuch):
                crediting.by_amount(now, piece)
            continue
        taken = crediting.whole(now) if piece is None else crediting.by_amount(now, piece)
        assert piece is None or taken.total == piece
        for position, amount in taken.lines.items():
            credited[position] = credited.get(position, 0) + amount
        tax_credited += taken.tax
        total += taken.total

    assert (total, tax_credited, sum(credited.values())) == (sum(lines) + tax, tax, sum(lines))
    assert all(credited.get(position, 0) <= amount for position, amount in enumerate(lines, 1))


def test_a_line_takes_its_share_of_the_tax_and_the_last_one_the_rest():
    first = crediting.by_lines(standing(100, 50, tax=29), {1: 100})
    rest = crediting.by_lines(standing(100, 50, tax=29, credited={1: 100}, tax_credited=first.tax), {2: 50})

    assert (first.tax, rest.tax) == (19, 10)


@pytest.mark.parametrize("wanted", [{1: 101}, {1: 50, 2: 51}])
def test_no_line_gives_more_than_it_has_left(wanted):
    with pytest.raises(TooMuch) as found:
        crediting.by_lines(standing(100, 50), wanted)

    assert found.value.position == max(wanted)


@pytest.mark.parametrize(
    ("total", "facts", "settled"),
    [
        # due, owed no more, money back, credits back
        (100, {"due_left": 100, "is_unpaid": True, "refundable": 0}, (100, 100, 0, 0)),
        (100, {"due_left": 30, "is_unpaid": True, "refundable": 0}, (30, 30, 0, 70)),
        (100, {"due_left": 100, "is_unpaid": False, "refundable": 100}, (100, 0, 100, 0)),
        (100, {"due_left": 100, "is_unpaid": False, "refundable": 40}, (100, 0, 40, 60)),
        (100, {"due_left": 60, "is_unpaid": False, "refundable": 100}, (60, 0, 60, 40)),
        (100, {"due_left": 0, "is_unpaid": False, "refundable": 100}, (0, 0, 0, 100)),
    ],
)
def test_a_note_is_settled_as_the_case_needs(total, facts, settled):
    assert tuple(vars(crediting.settle(total, **facts)).values()) == settled


@given(st.integers(1, 10_000), st.integers(0, 10**12), st.lists(st.integers(1, 3000), max_size=10))
def test_credits_behind_the_pieces_sum_to_the_credits_behind_the_whole(whole, whole_ucr, pieces):
    before = given_ucr = 0
    for piece in [*pieces, whole]:
        part = min(piece, whole - before)
        given_ucr += crediting.credits_of(part, before=before, whole=whole, whole_ucr=whole_ucr, before_ucr=given_ucr)
        before += part

    assert given_ucr == whole_ucr


def test_nothing_is_behind_nothing():
    assert crediting.credits_of(0, before=0, whole=0, whole_ucr=5, before_ucr=0) == 0
