"""Whom an API key stands for, as a function in the database; see sql/0011_key_function.sql."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("billing", "0010_payment_guards")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0011_key_function.sql").read_text(),
            reverse_sql="drop function billing_alive_key",
        )
    ]
