"""Pure. What a credit note takes off an invoice: from which lines, with how much tax, and how it is settled.

Everything is cumulative, as usage is rated: however an invoice is credited in pieces, all pieces together are exactly
its lines, its tax and its credits.

    what was due      of an unpaid invoice: owed no more; of a paid one: money that goes back, else credits
    what was covered  by credits: credits again

What reversals of usage gave back after the invoice counts as credited before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing import amounts


class TooMuch(ValueError):
    """Raised when more would be credited than is left; `left` is in minor units."""

    def __init__(self, left: int, position: int | None = None) -> None:
        self.left = left
        self.position = position
        super().__init__(left)


@dataclass(frozen=True)
class Standing:
    """What an invoice says, and what earlier credit notes took off it (minor units)."""

    # Position -> amount, and position -> what was taken off before.
    lines: Mapping[int, int]
    credited: Mapping[int, int]
    tax: int
    tax_credited: int

    def left_of(self, position: int) -> int:
        return self.lines[position] - self.credited.get(position, 0)

    @property
    def tax_left(self) -> int:
        return self.tax - self.tax_credited

    @property
    def net_left(self) -> int:
        return sum(self.left_of(position) for position in self.lines)

    @property
    def left(self) -> int:
        return self.net_left + self.tax_left


@dataclass(frozen=True)
class Taken:
    """What one credit note takes off: position -> net amount, and tax."""

    lines: Mapping[int, int]
    tax: int

    @property
    def subtotal(self) -> int:
        return sum(self.lines.values())

    @property
    def total(self) -> int:
        return self.subtotal + self.tax


def reversed_share(amount: int, *, cost_ucr: int, reversed_ucr: int) -> int:
    """What of a meter's amount was given back by reversals after its invoice, so that no credit note does again.

    Rounded up: what is left to credit is at most the share of what was not reversed.
    """
    return -(-amount * reversed_ucr // cost_ucr) if cost_ucr else 0


def without(standing: Standing, given_back: Mapping[int, int]) -> Standing:
    """What is left when so much of its lines was given back in another way, with its share of the tax, rounded up."""
    net, subtotal = sum(given_back.values()), sum(standing.lines.values())
    if not net:
        return standing
    positions = {*standing.credited, *given_back}
    credited = {each: standing.credited.get(each, 0) + given_back.get(each, 0) for each in positions}
    tax = min(-(-standing.tax * net // subtotal), standing.tax_left)
    return Standing(standing.lines, credited, standing.tax, standing.tax_credited + tax)


def whole(standing: Standing) -> Taken:
    """All that is left."""
    left = {position: standing.left_of(position) for position in standing.lines}
    return Taken({position: amount for position, amount in left.items() if amount}, standing.tax_left)


def by_lines(standing: Standing, wanted: Mapping[int, int]) -> Taken:
    """Net amounts of some lines, with their share of the tax. Raises TooMuch, and KeyError for no such line."""
    for position, amount in wanted.items():
        if amount > standing.left_of(position):
            raise TooMuch(standing.left_of(position), position)
    net_before = sum(standing.credited.values())
    net = sum(wanted.values())
    subtotal = sum(standing.lines.values())
    tax = amounts.half_even(Fraction(standing.tax * (net_before + net), subtotal)) - standing.tax_credited
    return Taken(dict(wanted), min(max(0, tax), standing.tax_left))


def by_amount(standing: Standing, gross: int) -> Taken:
    """An amount with its tax, taken off every line in proportion. Raises TooMuch."""
    if gross > standing.left:
        raise TooMuch(standing.left)
    before = sum(standing.credited.values()) + standing.tax_credited
    total = sum(standing.lines.values()) + standing.tax
    tax = amounts.half_even(Fraction(standing.tax * (before + gross), total)) - standing.tax_credited
    tax = min(max(0, tax, gross - standing.net_left), standing.tax_left, gross)
    positions = list(standing.lines)
    shares = spread(gross - tax, [standing.left_of(position) for position in positions])
    taken = {position: share for position, share in zip(positions, shares, strict=True) if share}
    return Taken(taken, tax)


def spread(amount: int, room: Sequence[int]) -> list[int]:
    """An amount over places in proportion to their room, each whole, none beyond its room (largest remainder)."""
    whole_room = sum(room)
    if not whole_room:
        return [0] * len(room)
    exact = [Fraction(amount * each, whole_room) for each in room]
    shares = [int(each) for each in exact]
    missing = amount - sum(shares)
    largest = sorted(range(len(room)), key=lambda place: (shares[place] - exact[place], place))
    for place in largest[:missing]:
        shares[place] += 1
    return shares


@dataclass(frozen=True)
class Settled:
    """How a credit note of `total` is settled; `due` is its part of what was due."""

    due: int
    due_reduced: int
    refund: int
    granted: int


def settle(total: int, *, due_left: int, is_unpaid: bool, refundable: int) -> Settled:
    """What was due comes first, as it was spent last; of it money goes back as far as a payment has any left."""
    due = min(total, due_left)
    due_reduced = due if is_unpaid else 0
    refund = 0 if is_unpaid else min(due, refundable)
    return Settled(due, due_reduced, refund, total - due_reduced - refund)


def credits_of(part: int, *, before: int, whole: int, whole_ucr: int, before_ucr: int) -> int:
    """The micro-credits behind a part of an amount, of which `before` was credited already, as `before_ucr`."""
    if not whole:
        return 0
    return max(0, amounts.half_even(Fraction(whole_ucr * (before + part), whole)) - before_ucr)
