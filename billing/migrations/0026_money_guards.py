"""Triggers for money that none guarded so far; see sql/0026_money_guards.sql."""

from pathlib import Path

from django.db import migrations

FUNCTIONS = ("billing_guard_dispute", "billing_guard_x402", "billing_guard_coin_quote", "billing_guard_coin_transfer")
TRIGGERS = {
    "cointransfer": ("never_deleted",),
    "coinquote": ("never_deleted",),
    "x402authorization": ("never_deleted",),
    "dispute": ("never_deleted",),
    "dunningstep": ("append_only",),
    "gatewaywebhook": ("kept_as_it_came", "never_deleted"),
    "bankstatement": ("kept_as_it_came", "never_deleted"),
    "invoiceseries": ("numbers_go_forward", "never_deleted"),
    "grant": ("given_as_it_was",),
}


class Migration(migrations.Migration):
    dependencies = [("billing", "0025_spends_at_once")]
    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "sql" / "0026_money_guards.sql").read_text(),
            reverse_sql="; ".join(
                [f"drop function {name} cascade" for name in FUNCTIONS]
                + [f"drop trigger {name} on billing_{table}" for table, names in TRIGGERS.items() for name in names]
            ),
        )
    ]
