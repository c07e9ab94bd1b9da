"""Budgets in the ledger's hot path; see sql/0014_budget_functions.sql. The old functions stay in 0004 and 0006."""

import re
from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"
OURS = (
    "billing_keep_usage",
    "billing_end_hold",
    "billing_hold",
    "billing_charge",
    "billing_budget_settle",
    "billing_budget_reserve",
    "billing_budget_spend",
    "billing_budget_alerts",
    "billing_budget_refusal",
    "billing_budget_counters",
    "billing_uuid7",
    "billing_budget_period",
    "billing_lock_wallet",
)
REPLACED = {
    "0004_ledger_functions.sql": ("billing_lock_wallet", "billing_charge", "billing_hold", "billing_end_hold"),
    "0006_usage_functions.sql": ("billing_keep_usage",),
}


def _before() -> str:
    """What puts the functions back as they were."""
    back = [f"drop function {name};" for name in OURS]
    for file, names in REPLACED.items():
        text = (SQL / file).read_text()
        for name in names:
            found = re.search(rf"^create function {name}\(.*?^(?:end \$\$|\$\$);$", text, re.S | re.M)
            assert found is not None
            back.append(found[0])
    return "\n".join(back)


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_budgets")]
    operations = [
        migrations.RunSQL((SQL / "0014_budget_functions.sql").read_text(), reverse_sql=_before()),
        # Who is there already is warned as newcomers are.
        migrations.RunSQL(
            "insert into billing_balancewatch (account_id, threshold_ucr, is_armed) "
            "select id, 100000000, false from billing_account on conflict do nothing",
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
