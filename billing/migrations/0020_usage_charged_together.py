"""Events of one meter that came together share one charge."""

import django.db.models.deletion
from django.db import migrations, models

# Before, a transaction was of one usage record. Those that share one cannot be told apart again: the ledger is append-only.
BACKWARDS = """
do $$ begin
    if exists (select 1 from billing_usagerecord where transaction_id is not null group by transaction_id having count(*) > 1)
    then
        raise exception 'Usage records share a charge. No version before can keep that: go back by a backup from before.'
            using errcode = 'restrict_violation';
    end if;
end $$;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0019_price_book_ends")]
    operations = [
        migrations.AlterField(
            model_name="usagerecord",
            name="transaction",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="usages",
                to="billing.transaction",
            ),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, reverse_sql=BACKWARDS),
    ]
