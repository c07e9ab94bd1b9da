"""Pages of Stripe's that payments are made on."""

import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0031_given_back_once'),
    ]

    operations = [
        migrations.CreateModel(
            name='StripeSession',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('reference', models.CharField(max_length=200, unique=True)),
                ('params', models.JSONField()),
                ('amount', models.BigIntegerField()),
                ('currency', models.CharField(max_length=3)),
                ('session_id', models.CharField(blank=True, max_length=200, null=True, unique=True)),
                ('payment_intent', models.CharField(blank=True, max_length=200, null=True, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='stripe_session_is_positive')],
            },
        ),
    ]
