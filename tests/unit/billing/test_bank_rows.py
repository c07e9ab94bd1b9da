from dataclasses import replace
from datetime import date

import pytest

from billing.bank import lines, rows
from billing.bank.lines import BadFile
from billing.bank.rows import Columns

GERMAN = Columns(date="Tag", amount="Betrag", text="Zweck", currency="Währung", bank_ref="Ref", payer_name="Wer")
HEAD = "Tag;Betrag;Währung;Zweck;Ref;Wer\n"


def read(body, columns=GERMAN, head=HEAD, encoding="utf-8"):
    return rows.read((head + body).encode(encoding), columns, iban="DE", currency="EUR")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_a_credit_is_read(encoding):
    said = read("2026-11-25;1.234,50;EUR;für alles;B1;Ärzte\n2026-11-25;-3,00;EUR;Miete;B2;Wir\n", encoding=encoding)

    (line,) = said.lines
    assert (line.booked_on, line.amount, line.text, line.bank_ref) == (date(2026, 11, 25), 123_450, "für alles", "B1")
    assert (line.payer_name, said.skipped) == ("Ärzte", 1)


@pytest.mark.parametrize(
    ("decimal", "text", "minor"),
    [
        ("comma", "12,5", 1250), ("comma", "+1.234.567,89", 123_456_789), ("comma", "7", 700), ("comma", "1 000,00", 100_000),
        ("point", "12.50", 1250), ("point", "1,234.50", 123_450), ("point", "1'000.00", 100_000),
    ],
)  # fmt: skip
def test_numbers_with_either_decimal_sign(decimal, text, minor):
    assert read(f"2026-11-25;{text};;x;;", replace(GERMAN, decimal=decimal)).lines[0].amount == minor


@pytest.mark.parametrize(
    ("days", "text"), [("DD.MM.YYYY", "05.11.2026"), ("DD/MM/YYYY", "05/11/2026"), ("MM/DD/YYYY", "11/05/2026")]
)
def test_days_as_the_importer_says(days, text):
    assert read(f"{text};1;;x;;", replace(GERMAN, days=days)).lines[0].booked_on == date(2026, 11, 5)


@pytest.mark.parametrize(
    ("body", "changes", "sentence"),
    [
        ("2026-11-25;1.50;EUR;x;;", {}, "Line 2: '1.50' is no amount with a decimal comma"),
        ("2026-11-25;1,50;EUR;x;;", {"decimal": "point"}, "no amount with a decimal point"),
        ("2026-11-25;1,505;EUR;x;;", {}, "more places than EUR has"),
        ("2026-11-25;;EUR;x;;", {}, "is no amount"),
        ("2026-11-25", {}, "is no amount"),
        ("25.11.2026;1;EUR;x;;", {}, "no day written as YYYY-MM-DD"),
        ("2026-02-30;1;EUR;x;;", {}, "no day written as"),
        ("2026-11-25;1;euros;x;;", {}, "is no currency"),
        ("", {"text": "Purpose"}, "no column 'Purpose'. The first line names these: Tag, Betrag"),
        ("", {"delimiter": "comma"}, "no column 'Tag'"),
        ('2026-11-25;1;EUR;"x;;', {}, "is no CSV"),
        (f"2026-11-25;1;EUR;{'x' * 200_000};;", {}, "is no CSV"),
        ("2026-11-25;1;EUR;\x00;;", {}, "no text in UTF-8"),
    ],
)
def test_a_bad_file_gets_a_sentence(body, changes, sentence):
    with pytest.raises(BadFile, match=sentence):
        read(body, replace(GERMAN, **changes))


def test_a_file_of_too_many_lines_is_refused(monkeypatch):
    monkeypatch.setattr(lines, "MOST_LINES", 2)

    with pytest.raises(BadFile, match="at most 2 lines"):
        read("2026-11-25;1;EUR;x;;\n" * 3)
