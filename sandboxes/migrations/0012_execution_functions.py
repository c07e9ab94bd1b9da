"""The hot path of an execution as functions in the database; see sql/0012_execution_functions.sql."""

from pathlib import Path

from django.db import migrations

FUNCTIONS = (
    "sandboxes_one",
    "sandboxes_built_in",
    "sandboxes_hold_row",
    "sandboxes_finish",
    "sandboxes_start",
    "sandboxes_claim",
    "sandboxes_submit",
    "sandboxes_next_turn",
)


class Migration(migrations.Migration):
    dependencies = [("sandboxes", "0011_runtimes"), ("billing", "0004_ledger_functions")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0012_execution_functions.sql").read_text(),
            reverse_sql="; ".join(f"drop function {name}" for name in FUNCTIONS),
        )
    ]
