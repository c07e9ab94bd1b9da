"""Metering's hot path as functions in the database; see sql/0006_usage_functions.sql."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_ledger_guards")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0006_usage_functions.sql").read_text(),
            reverse_sql="drop function billing_keep_usage; drop function billing_usage_facts",
        )
    ]
