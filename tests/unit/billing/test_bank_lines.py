from dataclasses import replace
from datetime import date

from billing.bank import lines
from billing.bank.lines import Line

ONE = Line(date(2026, 11, 25), 1250, "EUR", "thanks", bank_ref="B1")


def known_by(*found):
    return [identity for identity, _ in lines.identified(found)]


def test_the_bank_s_reference_says_which_line_it_is():
    assert known_by(ONE, replace(ONE, text="as another format has it")) == known_by(ONE) * 2
    assert len({*known_by(ONE, replace(ONE, bank_ref="B2"), replace(ONE, amount=1), replace(ONE, part=1))}) == 4


def test_equal_lines_without_a_reference_are_counted():
    for nothing in ("", "NOTPROVIDED", "nonref"):
        line = replace(ONE, bank_ref=nothing)

        assert len({*known_by(line, line)}) == 2
        assert known_by(line, line) == known_by(line, line)


def test_what_cannot_be_printed_is_not_kept():
    assert lines.shown(" a\n b\x07\u202e ") == "a b  "
    assert lines.shown("x" * 2000) == "x" * 1000
