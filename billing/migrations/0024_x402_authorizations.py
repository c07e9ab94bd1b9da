"""What was signed and sent along with a request (x402)."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0023_coins_and_transfers'),
    ]

    operations = [
        migrations.CreateModel(
            name='X402Authorization',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=300)),
                ('credits_ucr', models.BigIntegerField()),
                ('scheme', models.CharField(max_length=10)),
                ('network', models.CharField(max_length=60)),
                ('asset', models.CharField(max_length=42)),
                ('pay_to', models.CharField(max_length=42)),
                ('payer', models.CharField(max_length=42)),
                ('nonce', models.CharField(max_length=66)),
                ('most_units', models.BigIntegerField()),
                ('units', models.BigIntegerField()),
                ('valid_before', models.DateTimeField()),
                ('first_block', models.BigIntegerField()),
                ('payload', models.JSONField()),
                ('state', models.CharField(choices=[('accepted', 'Accepted'), ('sent', 'Sent'), ('settled', 'Settled'), ('refused', 'Refused')], default='accepted', max_length=10)),
                ('reference', models.CharField(blank=True, max_length=200, null=True, unique=True)),
                ('amount', models.BigIntegerField(default=0)),
                ('currency', models.CharField(blank=True, max_length=3)),
                ('tx_hash', models.CharField(blank=True, max_length=66, null=True)),
                ('reason', models.CharField(blank=True, max_length=60)),
                ('created_at', models.DateTimeField()),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='x402_authorizations', to='billing.account')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('network', 'scheme', 'payer', 'nonce'), name='one_x402_per_nonce'), models.UniqueConstraint(fields=('account', 'key'), name='one_x402_per_key'), models.UniqueConstraint(fields=('network', 'tx_hash'), name='one_x402_per_transaction'), models.CheckConstraint(condition=models.Q(('most_units__gte', models.F('units')), ('units__gt', 0), models.Q(models.Q(('scheme', 'exact'), _negated=True), ('units', models.F('most_units')), _connector='OR')), name='x402_settles_within_what_was_signed'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'settled'), ('tx_hash__isnull', False)), models.Q(models.Q(('state', 'settled'), _negated=True), ('tx_hash', None)), _connector='OR'), name='x402_has_a_transaction_iff_settled')],
            },
        ),
    ]
