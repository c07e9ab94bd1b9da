"""Triggers that keep credit notes as they were issued, within their invoice; see sql/0017_credit_note_guards.sql."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"
REVERSE = """
drop trigger never_deleted on billing_creditnote;
drop trigger append_only on billing_creditnoteline;
drop function billing_check_credited_line cascade;
drop function billing_guard_credit_note cascade;
"""


def _old_guard() -> str:
    """The guard of invoices as it was before."""
    text = (SQL / "0005_ledger_guards.sql").read_text()
    start = text.index("create function billing_guard_invoice()")
    return text[start : text.index("create trigger final_invoice_is_fixed")].replace("create", "create or replace", 1)


class Migration(migrations.Migration):
    dependencies = [("billing", "0016_credit_notes_and_reverse_charge")]
    operations = [
        migrations.RunSQL((SQL / "0017_credit_note_guards.sql").read_text(), reverse_sql=REVERSE + _old_guard())
    ]
