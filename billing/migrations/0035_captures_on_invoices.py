"""What holds for no meter captured is given back once; see sql/0035_captures_on_invoices.sql. The old stays in 0031."""

import re
from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"


def _before() -> str:
    """What puts the function back as it was."""
    text = (SQL / "0031_given_back_once.sql").read_text()
    found = re.search(r"^create (function billing_given_back\(.*?^\$\$;)$", text, re.S | re.M)
    assert found is not None
    return f"drop function billing_check_reversed_capture cascade; create or replace {found[1]}"


class Migration(migrations.Migration):
    dependencies = [("billing", "0034_lighter_spends")]
    operations = [
        migrations.RunSQL((SQL / "0035_captures_on_invoices.sql").read_text(), reverse_sql=_before()),
    ]
