"""Events of one meter that came together share one charge."""

import django.db.models.deletion
from django.db import migrations, models


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
        )
    ]
