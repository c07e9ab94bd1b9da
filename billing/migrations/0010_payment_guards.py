"""Triggers that keep payments as they were asked for and told; see sql/0010_payment_guards.sql."""

from pathlib import Path

from django.db import migrations

REVERSE = """
drop trigger append_only on billing_paymentevent;
drop trigger never_deleted on billing_payment;
drop trigger never_deleted on billing_refund;
drop function billing_guard_refund cascade;
drop function billing_guard_payment cascade;
drop function billing_payment_rank;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_simulated_gateway")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0010_payment_guards.sql").read_text(), reverse_sql=REVERSE
        )
    ]
