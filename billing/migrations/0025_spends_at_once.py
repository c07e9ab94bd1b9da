"""Spends in fewer statements; see sql/0025_spends_at_once.sql. The old functions stay in 0004, 0005, 0014 and 0019."""

import re
from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).parent / "sql"
MADE = ("billing_check_usage", "billing_check_entries", "billing_spend_at_once")
REPLACED = {
    "0004_ledger_functions.sql": ("billing_expiry_is_due", "billing_burn"),
    "0005_ledger_guards.sql": ("billing_check_balance",),
    "0014_budget_functions.sql": (
        "billing_lock_wallet", "billing_budget_refusal", "billing_budget_alerts", "billing_charge", "billing_hold",
        "billing_end_hold",
    ),
    "0019_price_book_ends.sql": ("billing_usage_facts",),
}  # fmt: skip
BALANCES = """
create constraint trigger transaction_balances after insert on billing_entry
    deferrable initially deferred for each row execute function billing_check_balance();"""


def _before() -> str:
    """What puts the functions back as they were."""
    back = [f"drop function {name} cascade;" for name in MADE]
    back.append("drop trigger never_deleted on billing_ledgeraccount; drop trigger keeps_its_account on billing_ledgeraccount;")
    back.append("alter table billing_ledgeraccount reset (fillfactor); alter table billing_grant reset (fillfactor);")
    for file, names in REPLACED.items():
        text = (SQL / file).read_text()
        for name in names:
            found = re.search(rf"^create (?:or replace )?function ({name}\(.*?^(?:end \$\$|\$\$);)$", text, re.S | re.M)
            assert found is not None
            back.append(f"create or replace function {found[1]}")
    return "\n".join([*back, BALANCES])


def _to(model: str, **changed: object) -> models.ForeignKey:
    return models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=f"billing.{model}", **changed)


class Migration(migrations.Migration):
    dependencies = [("billing", "0024_x402_authorizations")]
    operations = [
        migrations.RemoveIndex("grant", "grant_burn_order"),
        migrations.RemoveIndex("grant", "grant_expiring"),
        migrations.AddField(
            "grant",
            "is_open",
            models.GeneratedField(
                db_persist=True, expression=models.Q(("remaining_ucr__gt", 0)), output_field=models.BooleanField()
            ),
        ),
        migrations.AddIndex(
            "grant",
            models.Index(
                condition=models.Q(("is_open", True)),
                fields=["wallet", "priority", "expires_at", "created_at", "id"],
                name="grant_burn_order",
            ),
        ),
        migrations.AddIndex(
            "grant",
            models.Index(
                condition=models.Q(("expires_at__isnull", False), ("is_open", True)),
                fields=["expires_at"],
                name="grant_expiring",
            ),
        ),
        migrations.AlterField("grantconsumption", "grant", _to("grant", db_index=False, related_name="consumptions")),
        migrations.AlterField("transaction", "account", _to("account", db_index=False, related_name="transactions")),
        migrations.AlterField("hold", "account", _to("account", db_index=False, related_name="holds")),
        migrations.AlterField("hold", "wallet", _to("ledgeraccount", db_index=False, related_name="holds")),
        migrations.AlterField(
            "entry", "ledger_account", _to("ledgeraccount", db_constraint=False, db_index=False, related_name="entries")
        ),
        migrations.AlterField("entry", "transaction", _to("transaction", db_constraint=False, related_name="entries")),
        migrations.AlterField(
            "usagerecord", "account", _to("account", db_constraint=False, db_index=False, related_name="usage")
        ),
        migrations.AlterField(
            "usagerecord", "price", _to("price", db_constraint=False, db_index=False, related_name="+")
        ),
        migrations.AlterField(
            "usagerecord", "transaction", _to("transaction", db_constraint=False, null=True, related_name="usages")
        ),
        migrations.RunSQL((SQL / "0025_spends_at_once.sql").read_text(), reverse_sql=_before()),
    ]
