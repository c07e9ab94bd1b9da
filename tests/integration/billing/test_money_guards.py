"""What the database refuses of money that is kept: grants, disputes, reminders, webhooks, statements, numbers."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing.models import BankStatement, DunningStep, GatewayWebhook, Invoice
from tests.integration.billing.test_verify import busy  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

# What the guards say; a CHECK says something else.
GUARDED = r"append-only|cannot (change|go)|stays so|as the chain said|is about what"
REFUSED = [
    "update billing_grant set amount_ucr = amount_ucr + 1",
    "update billing_grant set expires_at = now()",
    "update billing_grant set priority = 1",
    "delete from billing_dispute",
    "update billing_dispute set amount = amount - 1",
    "update billing_dispute set taken_ucr = 0, taken_id = null",
    "update billing_invoiceseries set last_number = last_number - 1",
    "update billing_invoiceseries set last_number = last_number + 2",
    "update billing_invoiceseries set year = year + 1",
    "delete from billing_invoiceseries",
    "delete from billing_dunningstep",
    "update billing_dunningstep set days = 1",
    "update billing_gatewaywebhook set body = 'x' where state = 'received'",
    "delete from billing_gatewaywebhook where state = 'received'",
    "update billing_bankstatement set digest = 'another'",
    "delete from billing_bankstatement",
]


@pytest.fixture
def kept(busy):  # noqa: F811 - the fixture
    at = timezone.now()
    DunningStep.objects.create(invoice=Invoice.objects.get(), days=3, created_at=at)
    BankStatement.objects.create(name="s", digest="d", iban="i", created_at=at)
    for state in ("received", "invalid"):
        GatewayWebhook.objects.create(gateway="simulated", state=state, body=b"{}", event_id=state, received_at=at)


@pytest.mark.parametrize("act", REFUSED)
def test_it_is_refused(kept, act):
    with pytest.raises(IntegrityError, match=GUARDED), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(act)


@pytest.mark.parametrize("decided", ["won", "lost"])
def test_the_first_decision_of_a_dispute_stays(kept, decided):
    other = {"won": "lost", "lost": "won"}[decided]
    with connection.cursor() as cursor:
        cursor.execute("update billing_dispute set state = %s, settled_at = now()", [decided])
        with pytest.raises(IntegrityError, match="cannot go"), transaction.atomic():
            cursor.execute("update billing_dispute set state = %s", [other])


def test_what_was_not_signed_may_be_forgotten(kept):
    assert GatewayWebhook.objects.filter(state="invalid").delete()[0] == 1
