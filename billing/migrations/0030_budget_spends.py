"""What counted on which budget, given back by reversals; see sql/0030_budget_spends.sql."""

import re
from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).parent / "sql"
# The callers say less again.
CALLERS = """
do $$
begin
    execute replace(pg_get_functiondef('billing_charge'::regproc), ', p_now, p_ids[1])', ', p_now)');
    execute replace(pg_get_functiondef('billing_end_hold'::regproc), 'p_now, transaction)', 'p_now)');
end $$;
"""


def _before() -> str:
    """What puts the functions back as they were."""
    text = (SQL / "0014_budget_functions.sql").read_text()
    back = ["drop function billing_give_budgets_back cascade;"]
    for name in ("billing_budget_spend", "billing_budget_settle"):
        found = re.search(rf"^create function {name}\(.*?^end \$\$;$", text, re.S | re.M)
        assert found is not None
        back += [f"drop function {name};", found[0]]
    return "\n".join([*back, CALLERS])


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0029_coin_refunds'),
    ]

    operations = [
        migrations.CreateModel(
            name='BudgetSpend',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('amount_ucr', models.BigIntegerField()),
                ('counter', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='spends', to='billing.budgetcounter')),
                ('transaction', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.transaction')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('transaction', 'counter'), name='one_spend_per_counter'), models.CheckConstraint(condition=models.Q(('amount_ucr__gt', 0)), name='budget_spend_is_positive')],
            },
        ),
        migrations.RunSQL((SQL / "0030_budget_spends.sql").read_text(), reverse_sql=_before()),
    ]
