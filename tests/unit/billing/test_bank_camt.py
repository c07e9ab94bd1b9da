from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.bank import camt, lines
from billing.bank.lines import BadFile
from tests.bank_cast import IBAN, entry, remittance, structured
from tests.bank_cast import camt as written


@pytest.mark.parametrize("version", ["02", "04", "06", "08", "10", "13"])
def test_a_credit_is_read_of_any_version(version):
    said = camt.read(written([entry("12.50", "RF 1", ref="B1")], version=version))

    (line,) = said.lines
    assert (said.iban, said.skipped) == (IBAN, 0)
    assert (line.amount, line.currency, line.text, line.bank_ref) == (1250, "EUR", "RF 1", "B1")
    assert (line.booked_on, line.valued_on) == (date(2026, 11, 25), date(2026, 11, 26))
    assert (line.payer_name, line.payer_iban) == ("Acme", "GB82WEST12345698765432")


@pytest.mark.parametrize(
    ("text", "currency", "minor"), [("7", "JPY", 7), ("1.234", "KWD", 1234), ("12.50000", "EUR", 1250)]
)
def test_amounts_are_of_their_currency(text, currency, minor):
    assert camt.read(written([entry(text, currency=currency)])).lines[0].amount == minor


def test_what_is_no_booked_credit_is_counted_and_left_out():
    said = camt.read(
        written(
            [
                entry("1.00", sign="DBIT"),
                entry("2.00", status="<Sts>PDNG</Sts>"),
                entry("3.00", status="<Sts><Cd>INFO</Cd></Sts>"),
                entry("4.00", extra="<RvslInd>true</RvslInd>"),
                entry("5.00", status="<Sts><Cd>BOOK</Cd></Sts>"),
            ],
            version="08",
        )
    )

    assert ([line.amount for line in said.lines], said.skipped) == ([500], 4)


def test_a_structured_reference_is_part_of_the_text():
    assert camt.read(written([entry("1.00", details=structured("RF712348231"))])).lines[0].text == "RF712348231"


def test_a_booking_of_several_payments_is_a_line_for_each():
    parts = f"<TxDtls>{remittance('a', amount='1.00')}</TxDtls><TxDtls>{remittance('b', amount='2.00')}</TxDtls>"

    found = camt.read(written([entry("3.00", ref="B", details=parts)])).lines
    assert [(line.amount, line.text, line.part) for line in found] == [(100, "a", 0), (200, "b", 1)]

    (whole,) = camt.read(written([entry("4.00", ref="B", details=parts)])).lines
    assert (whole.amount, whole.text) == (400, "a b")


BOMB = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Document>&b;</Document>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><Document>&a;</Document>"""


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (BOMB, "declares entities"),
        (OUTSIDE, "declares entities"),
        (b"<a", "no XML that can be read"),
        (b"PK\x03\x04", "no XML that can be read"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "no XML that can be read"),
        (b"<Document/>", "no CAMT.053"),
        (written([]).replace(b"camt.053", b"camt.052"), "no CAMT.053"),
        (written([]).replace(b"Stmt>", b"Rpt>"), "no statement in it"),
        (written([], iban=""), "of one account"),
        (written([entry("1,00")]), "Entry 1: '1,00' is no amount"),
        (written([entry("-1.00")]), "is no amount"),
        (written([entry("1.005")]), "more places than EUR has"),
        (written([entry("1e5")]), "is no amount"),
        (written([entry("1.00", currency="Eu")]), "is no currency"),
        (written([entry("1.00"), entry("1.00").replace("2026-11-25", "25.11.2026")]), "Entry 2: '25.11.2026' is no date"),
        (written([entry("1.00").replace("Amt", "Amount")]), "has no amount"),
    ],
)  # fmt: skip
def test_a_bad_file_gets_a_sentence(data, sentence):
    with pytest.raises(BadFile, match=sentence):
        camt.read(data)


def test_a_file_of_too_many_lines_is_refused(monkeypatch):
    monkeypatch.setattr(lines, "MOST_LINES", 2)

    with pytest.raises(BadFile, match="at most 2 payments"):
        camt.read(written([entry("1.00")] * 3))


def test_depth_breaks_nothing():
    with pytest.raises(BadFile):
        camt.read(b"<a>" * 100_000 + b"</a>" * 100_000)


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: written([entry(text, text)])))
def test_anything_is_read_or_refused(data):
    try:
        said = camt.read(data)
    except BadFile:
        return

    assert all(line.amount > 0 for line in said.lines)
