"""What holds for no meter captured is given back once; see sql/0037_captures_on_invoices.sql. The old stays in 0031, 0034."""

import re
from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).parent / "sql"
REPLACED = {
    "0031_given_back_once.sql": r"^create (function billing_given_back\(.*?^\$\$;)$",
    "0034_lighter_spends.sql": r"^create or replace (function billing_check_reversal\(.*?^end \$\$;)$",
}


def _before() -> str:
    """What puts the functions back as they were."""
    back = []
    for file, wanted in REPLACED.items():
        found = re.search(wanted, (SQL / file).read_text(), re.S | re.M)
        assert found is not None
        back.append(f"create or replace {found[1]}")
    return "\n".join(back)


class Migration(migrations.Migration):
    dependencies = [("billing", "0036_budget_counters_end")]
    operations = [
        migrations.AddIndex(
            "transaction",
            models.Index(
                condition=models.Q(("kind", "capture")), fields=["account", "created_at"], name="transaction_captures"
            ),
        ),
        migrations.RunSQL((SQL / "0037_captures_on_invoices.sql").read_text(), reverse_sql=_before()),
    ]
