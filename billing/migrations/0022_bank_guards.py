"""Triggers that keep what banks said, and the sums of what it was matched with; see sql/0022_bank_guards.sql."""

from pathlib import Path

from django.db import migrations

REVERSE = """
drop trigger append_only on billing_bankmatch;
drop trigger never_deleted on billing_bankline;
drop trigger never_deleted on billing_banktransfer;
drop trigger never_deleted on billing_bankreturn;
drop function billing_add_bank_match cascade;
drop function billing_guard_bank_line cascade;
drop function billing_guard_bank_transfer cascade;
drop function billing_guard_bank_return cascade;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0021_bank_transfers")]
    operations = [
        migrations.RunSQL((Path(__file__).parent / "sql" / "0022_bank_guards.sql").read_text(), reverse_sql=REVERSE)
    ]
