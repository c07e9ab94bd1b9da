"""What a customer sees who pays by bank transfer, and what staff does with the bank's statements."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from billing.bank import references
from billing.models import BankLine, BankMatch, BankReturn, Payment
from tests import bank_cast, factories
from tests.page_cast import act, page, text
from tests.payment_cast import buy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def bank_account(settings):
    settings.BANK_IBAN, settings.BANK_BIC, settings.BANK_ACCOUNT_HOLDER = bank_cast.IBAN, "COBADEFFXXX", "ntd GmbH"


def upload(client, data, name="s.xml", **more):
    return act(client, "bank-import", file=SimpleUploadedFile(name, data), **{"format": "camt", **more})


def test_a_customer_sees_where_to_transfer_what_with_which_reference(alice):
    assert "Bank transfer" in text(page(alice, "top-up"))
    key = "00000000-0000-0000-0000-000000000001"

    said = text(act(alice, "top-up", credits="500", method="bank_transfer", key=key))

    payment = Payment.objects.get()
    wanted = ("DE89 3704 0044 0532 0130 00", "COBADEFFXXX", "ntd GmbH", "5.00\xa0EUR".replace("\xa0", " "))
    for each in (*wanted, references.grouped(payment.gateway_ref)):
        assert each in said.replace("\xa0", " ")
    assert "Ask the gateway now" not in said


def test_what_came_in_part_is_shown_to_the_customer(alice):
    payment = buy(alice.account, 500, "bank_transfer")
    line = bank_cast.make_line(200)
    alice.force_login(factories.make_staff())
    act(alice, "bank-match", line.pk, reference=payment.gateway_ref)

    said = text(page(alice, "payment", payment.pk)).replace("\xa0", " ")

    assert "Transfer 3.00 EUR" in said
    assert "Came on 25 Nov 2026" in said


def test_staff_imports_a_statement_and_sees_what_it_did(stella):
    payment = buy(stella.account, 500, "bank_transfer")
    data = bank_cast.camt(
        [
            bank_cast.entry("5.00", payment.gateway_ref),
            bank_cast.entry("7.00", "Danke"),
            bank_cast.entry("1", sign="DBIT"),
        ]
    )

    said = text(upload(stella, data))

    assert "s.xml: 2 new, 0 known before, 1 left out as no payments to us. 1 matched by themselves." in said
    assert "Danke" in said
    assert text(page(stella, "bank")).count("Match</a>") == 1
    assert text(page(stella, "bank", show="all")).count("Look</a>") == 1
    assert "The bank&#x27;s statement" in text(page(stella, "payment", payment.pk)) or "The bank's statement" in text(
        page(stella, "payment", payment.pk)
    )


def test_a_csv_is_imported_by_its_columns(stella):
    data = b"Date;Amount;Text\n26.11.2026;1.234,50;RF\n"

    assert "A CSV needs this column" in text(upload(stella, data, "s.csv", format="csv"))
    said = {"date": "Date", "amount": "Amount", "text": "Text", "delimiter": "semicolon", "decimal": "comma"}
    assert "1 new" in text(upload(stella, data, "s.csv", format="csv", days="DD.MM.YYYY", **said))
    assert BankLine.objects.get().amount == 123_450


def test_a_bad_file_gets_a_sentence_on_the_form(stella):
    answer = upload(stella, b"<a/>")

    assert answer.status_code == 422
    assert "This XML is no CAMT.053 statement" in text(answer)
    assert text(act(stella, "bank-import", format="camt")).count("This field is required.") == 1


def test_staff_matches_a_line_by_hand_splits_it_gives_back_and_sets_aside(stella):
    payment = buy(stella.account, 500, "bank_transfer")
    line = bank_cast.make_line(1000, text="no reference", payer_name="Acme")
    assert payment.gateway_ref not in text(page(stella, "bank-line", line.pk))
    alike = bank_cast.make_line(500)
    assert payment.gateway_ref in text(page(stella, "bank-line", alike.pk))

    act(stella, "bank-match", line.pk, reference=references.grouped(payment.gateway_ref), reason="told by phone")
    act(stella, "bank-give-back", line.pk, **{"back-amount": "2.00"})
    said = text(act(stella, "bank-set-aside", line.pk, **{"aside-reason": "a gift"}))

    assert "It is set aside" in said
    assert "It was sent" in said
    assert list(BankMatch.objects.order_by("created_at").values_list("kind", "amount")) == [
        ("payment", 500), ("return", 200), ("foreign", 300)
    ]  # fmt: skip
    shown = text(page(stella, "bank-line", line.pk))
    assert "told by phone" in shown
    assert "All of it is matched" in shown
    back = BankReturn.objects.get()
    assert "It is noted as sent." in text(act(stella, "bank-sent", back.pk))
    assert "Somebody noted it as sent already." in text(act(stella, "bank-sent", back.pk))


def test_what_does_not_fit_says_why(stella):
    line = bank_cast.make_line(1000)

    for name, given in (
        ("bank-match", {"reference": "", "amount": "x"}),
        ("bank-give-back", {"back-amount": "-1"}),
        ("bank-set-aside", {"aside-reason": ""}),
    ):
        assert act(stella, name, line.pk, **given).status_code == 422
    refused = act(stella, "bank-match", line.pk, reference="RF18539007547034")
    assert refused.status_code == 409
    assert "There is no payment with this reference." in text(refused)


def test_customers_do_not_see_the_bank_s_pages(alice):
    line = bank_cast.make_line()

    for name, *args in (("bank",), ("bank-import",), ("bank-line", line.pk)):
        assert page(alice, name, *args).status_code == 403
    assert ">Bank</a>" not in text(page(alice, "overview"))


def test_the_list_of_lines_asks_the_database_the_same_however_many(stella, django_assert_max_num_queries):
    for _ in range(5):
        bank_cast.make_line()
        bank_cast.make_return()

    with django_assert_max_num_queries(14):
        page(stella, "bank")
