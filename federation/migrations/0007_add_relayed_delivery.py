from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('federation', '0006_heartbeats_write_no_index'),
    ]

    operations = [
        migrations.AddField(
            model_name='federation',
            name='delivery',
            field=models.CharField(choices=[('logical', 'Logical'), ('relayed', 'Relayed')], default='logical', max_length=8),
        ),
        migrations.AddConstraint(
            model_name='federation',
            constraint=models.CheckConstraint(condition=models.Q(('delivery__in', ['logical', 'relayed'])), name='federation_delivery'),
        ),
    ]
