"""Guards that cost a spend nothing; see sql/0034_lighter_spends.sql. The old functions stay in 0025, 0030 and 0031."""

import re
from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

SQL = Path(__file__).parent / "sql"
REPLACED = {
    "0025_spends_at_once.sql": r"create function billing_check_entries\(.*?^end \$\$;",
    "0030_budget_spends.sql": r"create function billing_give_budgets_back\(.*",
    "0031_given_back_once.sql": r"create function billing_check_reversal\(.*?execute function billing_check_reversal\(\);",
}


def _before() -> str:
    """What puts the triggers and functions back as they were."""
    back = ["drop trigger reversals_are_sound on billing_transaction;", "drop function billing_refuse_row cascade;"]
    for file, wanted in REPLACED.items():
        found = re.search(wanted, (SQL / file).read_text(), re.S | re.M)
        assert found is not None
        back.append(re.sub("^create function", "create or replace function", found[0]))
    return "\n".join(back)


def _to(model: str, **changed: object) -> models.ForeignKey:
    return models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=f"billing.{model}", db_index=False, **changed)


def _check(model: str, name: str, condition: object) -> migrations.AddConstraint:
    return migrations.AddConstraint(model, models.CheckConstraint(condition=condition, name=name))


def _unique(model: str, name: str, *fields: str, condition: Q | None = None) -> migrations.AddConstraint:
    return migrations.AddConstraint(model, models.UniqueConstraint(fields=fields, condition=condition, name=name))


class Migration(migrations.Migration):
    dependencies = [("billing", "0033_usage_keeps_its_key")]
    operations = [
        # Ids are in the order of writing.
        migrations.RemoveIndex("transaction", "transaction_newest"),
        migrations.RemoveConstraint("entry", "one_entry_per_statement_line"),
        migrations.RemoveConstraint("entry", "statement_lines_carry_a_balance"),
        migrations.RemoveConstraint("grant", "grant_is_positive"),
        migrations.RemoveConstraint("grant", "grant_priority_0_to_100"),
        migrations.RemoveConstraint("grantconsumption", "one_consumption_per_grant_and_act"),
        migrations.RemoveConstraint("ledgeraccount", "wallet_debt_not_negative"),
        migrations.RemoveConstraint("ledgeraccount", "wallet_floor_not_above_0"),
        migrations.RemoveConstraint("ledgeraccount", "wallets_have_an_account_and_a_floor"),
        migrations.RemoveConstraint("ledgeraccount", "wallet_above_floor"),
        migrations.RemoveConstraint("transaction", "reversals_name_what_they_reverse"),
        migrations.AlterField("grant", "priority", models.SmallIntegerField(default=50)),
        migrations.AlterField("grantconsumption", "transaction", _to("transaction", related_name="consumptions")),
        migrations.AlterField(
            "transaction", "account", _to("account", db_constraint=False, related_name="transactions")
        ),
        migrations.AlterField(
            "transaction",
            "reverses",
            _to("transaction", db_constraint=False, null=True, blank=True, related_name="reversed_by"),
        ),
        _unique("entry", "one_entry_per_statement_line", "ledger_account", "line", condition=Q(line__isnull=False)),
        _check("entry", "statement_lines_carry_a_balance", Exact(Q(line__isnull=True), Q(balance_after_ucr__isnull=True))),
        _unique("grantconsumption", "one_consumption_per_grant_and_act", "transaction", "grant"),
        _check(
            "ledgeraccount",
            "wallet_above_floor",
            Coalesce(
                Q(posted_ucr__gte=F("floor_ucr") + F("held_ucr") - F("arrears_ucr")),
                Q(posted_ucr=0, held_ucr=0),
                output_field=models.BooleanField(),
            ),
        ),
        _unique("transaction", "a_transaction_is_reversed_once", "reverses", condition=Q(reverses__isnull=False)),
        _check(
            "transaction", "reversals_name_what_they_reverse", Exact(Q(kind="reversal"), Q(reverses__isnull=False))
        ),
        migrations.RunSQL((SQL / "0034_lighter_spends.sql").read_text(), reverse_sql=_before()),
    ]
