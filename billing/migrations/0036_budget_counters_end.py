"""Counters whose period is long over are marked: what counted on them is forgotten, which the sweep does."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0035_cards_kept_at_stripe'),
    ]

    operations = [
        migrations.AddField(
            model_name='budgetcounter',
            name='is_over',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddIndex(
            model_name='budgetcounter',
            index=models.Index(condition=models.Q(('is_over', False)), fields=['period_start'], name='budget_counter_not_over'),
        ),
    ]
