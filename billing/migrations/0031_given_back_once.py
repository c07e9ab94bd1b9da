"""Usage that was reversed is not credited too; see sql/0031_given_back_once.sql."""

from pathlib import Path

from django.db import migrations

REVERSE = """
drop function billing_check_reversal cascade;
drop function billing_check_credited_usage cascade;
drop function billing_check_given_back;
drop function billing_given_back;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0030_budget_spends")]
    operations = [
        migrations.RunSQL((Path(__file__).parent / "sql" / "0031_given_back_once.sql").read_text(), reverse_sql=REVERSE)
    ]
