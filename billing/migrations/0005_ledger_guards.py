"""Triggers that keep the books as they were written; see sql/0005_ledger_guards.sql."""

from pathlib import Path

from django.db import migrations

FUNCTIONS = (
    "billing_guard_invoice_line",
    "billing_guard_invoice",
    "billing_guard_hold",
    "billing_check_balance",
    "billing_refuse_change",
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_ledger_functions")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0005_ledger_guards.sql").read_text(),
            reverse_sql="; ".join(f"drop function {name} cascade" for name in FUNCTIONS),
        )
    ]
