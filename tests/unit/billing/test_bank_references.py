import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.bank import references

NUMBERS = st.integers(0, 10**references.DIGITS - 1)
# As descriptions of the standard show them: right ones with letters and without, and two that are wrong on purpose
# (RF35C4 and RF214377), whose right check digits are 51 and 68.
PUBLISHED = ["RF18 5390 0754 7034", "rf712348231", "RF45 G72U UR", "RF6518K5", "RF51C4", "RF684377"]


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_references_are_right(text):
    assert references.is_reference(text)


@pytest.mark.parametrize(
    "text", ["RF35C4", "RF214377", "RF19539007547034", "RF18539007547043", "RF18", "XX18539007547034", "", "RF18Ä"]
)
def test_wrong_references_are_not(text):
    assert not references.is_reference(text)


@pytest.mark.parametrize(
    "iban", ["GB82 WEST 1234 5698 7654 32", "DE89 3704 0044 0532 0130 00", "FR14 2004 1010 0505 0001 3M02 606"]
)
def test_published_ibans_are_right(iban):
    assert references.is_iban(iban)
    assert not references.is_iban(iban[:-1] + ("1" if iban[-1] != "1" else "2"))


@given(NUMBERS)
def test_a_number_makes_a_reference_that_says_the_number(number):
    made = references.make(number)

    assert references.is_reference(made)
    assert len(made) == 14
    assert references.number_of(references.grouped(made).lower()) == number


@given(NUMBERS, st.integers(4, 13), st.integers(1, 9))
def test_one_wrong_digit_is_noticed(number, place, more):
    made = references.make(number)
    wrong = made[:place] + str((int(made[place]) + more) % 10) + made[place + 1 :]

    assert references.number_of(wrong) is None


@given(NUMBERS, st.integers(4, 12))
def test_two_digits_in_the_wrong_order_are_noticed(number, place):
    made = references.make(number)
    wrong = made[:place] + made[place + 1] + made[place] + made[place + 2 :]

    assert references.number_of(wrong) is None or wrong == made


OURS, OTHER = references.make(7), references.make(8)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((OURS,), OURS),
        ((f"Thanks {references.grouped(OURS)} for 3 things",), OURS),
        ((f"ref:{OURS[:6]}-{OURS[6:]}.",), OURS),
        ((OURS.lower(), "", OURS), OURS),
        (("RF18 5390 0754 7034",), ""),  # a right reference of somebody else's, which has eleven digits or more
        ((OURS, OTHER), ""),
        ((f"{OURS}1",), ""),
        ((f"X{OURS}",), ""),
        ((OURS[:-1] + "9",), ""),
        (("nothing",), ""),
    ],
)
def test_a_reference_is_found_in_what_people_write(texts, found):
    assert references.found_in(*texts) == found


def test_somebody_else_s_reference_is_no_number():
    assert references.number_of("RF712348231") is None
