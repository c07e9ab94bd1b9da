"""The ledger's hot path as functions in the database; see sql/0004_ledger_functions.sql."""

from pathlib import Path

from django.db import migrations

FUNCTIONS = (
    "billing_end_hold",
    "billing_hold",
    "billing_charge",
    "billing_post_spend",
    "billing_burn",
    "billing_expiry_is_due",
    "billing_house_account",
    "billing_lock_wallet",
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_ledger_prices_usage_invoices")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0004_ledger_functions.sql").read_text(),
            reverse_sql="; ".join(f"drop function {name}" for name in FUNCTIONS),
        )
    ]
