"""A refund of credits that had been spent pushes a wallet below its floor; how far is kept."""

import django.db.models.expressions
from django.db import migrations, models

# Before, no wallet could be below its floor, whatever had to be taken of it.
BACKWARDS = """
do $$ begin
    if exists (select 1 from billing_ledgeraccount where arrears_ucr > 0) then
        raise exception 'Wallets are in arrears. No version before can keep that: have them paid, or go back by a backup '
            'from before.' using errcode = 'restrict_violation';
    end if;
end $$;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_usage_functions")]
    operations = [
        migrations.RemoveConstraint(
            model_name="ledgeraccount",
            name="wallet_above_floor",
        ),
        migrations.AddField(
            model_name="ledgeraccount",
            name="arrears_ucr",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="transaction",
            name="kind",
            field=models.CharField(
                choices=[
                    ("grant", "Grant"),
                    ("charge", "Charge"),
                    ("capture", "Capture"),
                    ("expiry", "Expiry"),
                    ("transfer", "Transfer"),
                    ("refund", "Refund"),
                    ("reversal", "Reversal"),
                ],
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgeraccount",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("floor_ucr", None),
                    models.Q(
                        ("arrears_ucr__gte", 0),
                        (
                            "posted_ucr__gte",
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("floor_ucr"), "+", models.F("held_ucr")
                                ),
                                "-",
                                models.F("arrears_ucr"),
                            ),
                        ),
                    ),
                    _connector="OR",
                ),
                name="wallet_above_floor",
            ),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql=BACKWARDS),
    ]
