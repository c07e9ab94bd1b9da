"""Usage is priced by books that have not ended, and published books are fixed; see sql/0019_price_book_ends.sql."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"
REVERSE = """
drop trigger never_deleted on billing_pricebook;
drop function billing_guard_price_book cascade;
"""


def _old_facts() -> str:
    text = (SQL / "0006_usage_functions.sql").read_text()
    start, end = text.index("create function billing_usage_facts"), text.index("-- Charge for an event")
    return text[start:end].replace("create", "create or replace", 1)


class Migration(migrations.Migration):
    dependencies = [("billing", "0018_price_drafts")]
    operations = [
        migrations.RunSQL((SQL / "0019_price_book_ends.sql").read_text(), reverse_sql=REVERSE + _old_facts())
    ]
