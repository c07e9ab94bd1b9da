"""Guards that cost a spend nothing; see sql/0034_lighter_spends.sql. The old functions stay in 0025, 0030 and 0031."""

import re
from pathlib import Path

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.comparison
import django.db.models.lookups
from django.db import migrations, models

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


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0033_usage_keeps_its_key"),
    ]

    operations = [
        # Ids are in the order of writing.
        migrations.RemoveIndex("transaction", "transaction_newest"),
        migrations.RemoveConstraint(
            model_name="entry",
            name="one_entry_per_statement_line",
        ),
        migrations.RemoveConstraint(
            model_name="entry",
            name="statement_lines_carry_a_balance",
        ),
        migrations.RemoveConstraint(
            model_name="grant",
            name="grant_is_positive",
        ),
        migrations.RemoveConstraint(
            model_name="grant",
            name="grant_priority_0_to_100",
        ),
        migrations.RemoveConstraint(
            model_name="grantconsumption",
            name="one_consumption_per_grant_and_act",
        ),
        migrations.RemoveConstraint(
            model_name="ledgeraccount",
            name="wallet_debt_not_negative",
        ),
        migrations.RemoveConstraint(
            model_name="ledgeraccount",
            name="wallet_floor_not_above_0",
        ),
        migrations.RemoveConstraint(
            model_name="ledgeraccount",
            name="wallets_have_an_account_and_a_floor",
        ),
        migrations.RemoveConstraint(
            model_name="ledgeraccount",
            name="wallet_above_floor",
        ),
        migrations.RemoveConstraint(
            model_name="transaction",
            name="reversals_name_what_they_reverse",
        ),
        migrations.AlterField(
            model_name="grant",
            name="priority",
            field=models.SmallIntegerField(default=50),
        ),
        migrations.AlterField(
            model_name="grantconsumption",
            name="transaction",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="consumptions",
                to="billing.transaction",
            ),
        ),
        migrations.AlterField(
            model_name="transaction",
            name="account",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="transactions",
                to="billing.account",
            ),
        ),
        migrations.AlterField(
            model_name="transaction",
            name="reverses",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="reversed_by",
                to="billing.transaction",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.UniqueConstraint(
                condition=models.Q(("line__isnull", False)),
                fields=("ledger_account", "line"),
                name="one_entry_per_statement_line",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(
                    models.Q(("line__isnull", True)), models.Q(("balance_after_ucr__isnull", True))
                ),
                name="statement_lines_carry_a_balance",
            ),
        ),
        migrations.AddConstraint(
            model_name="grantconsumption",
            constraint=models.UniqueConstraint(
                fields=("transaction", "grant"), name="one_consumption_per_grant_and_act"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgeraccount",
            constraint=models.CheckConstraint(
                condition=django.db.models.functions.comparison.Coalesce(
                    models.Q(
                        (
                            "posted_ucr__gte",
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("floor_ucr"), "+", models.F("held_ucr")
                                ),
                                "-",
                                models.F("arrears_ucr"),
                            ),
                        )
                    ),
                    models.Q(("held_ucr", 0), ("posted_ucr", 0)),
                    output_field=models.BooleanField(),
                ),
                name="wallet_above_floor",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("reverses__isnull", False)),
                fields=("reverses",),
                name="a_transaction_is_reversed_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(
                    models.Q(("kind", "reversal")), models.Q(("reverses__isnull", False))
                ),
                name="reversals_name_what_they_reverse",
            ),
        ),
        migrations.RunSQL((SQL / "0034_lighter_spends.sql").read_text(), reverse_sql=_before()),
    ]
