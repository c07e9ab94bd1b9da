"""Where USDC is to be paid, and the transfers that came."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0022_bank_guards'),
    ]

    operations = [
        migrations.CreateModel(
            name='ChainCursor',
            fields=[
                ('network', models.CharField(max_length=60, primary_key=True, serialize=False)),
                ('final_block', models.BigIntegerField()),
                ('final_hash', models.CharField(max_length=66)),
                ('next_index', models.BigIntegerField(default=0)),
                ('version', models.BigIntegerField(default=0)),
                ('read_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='SimulatedBlock',
            fields=[
                ('number', models.BigIntegerField(primary_key=True, serialize=False)),
                ('hash', models.CharField(max_length=66, unique=True)),
                ('time', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='CoinQuote',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('reference', models.CharField(max_length=200, unique=True)),
                ('network', models.CharField(max_length=60)),
                ('token', models.CharField(max_length=42)),
                ('address', models.CharField(max_length=42)),
                ('units', models.BigIntegerField()),
                ('amount', models.BigIntegerField()),
                ('currency', models.CharField(max_length=3)),
                ('expires_at', models.DateTimeField()),
                ('return_url', models.CharField(blank=True, max_length=2000)),
                ('cancelled_at', models.DateTimeField(blank=True, null=True)),
                ('said', models.CharField(blank=True, max_length=16)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['network', 'expires_at'], name='coin_quote_watched')],
                'constraints': [models.UniqueConstraint(fields=('network', 'address'), name='one_coin_quote_per_address'), models.CheckConstraint(condition=models.Q(('amount__gt', 0), ('units__gt', 0)), name='coin_quote_is_positive')],
            },
        ),
        migrations.CreateModel(
            name='CoinTransfer',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('network', models.CharField(max_length=60)),
                ('tx_hash', models.CharField(max_length=66)),
                ('log_index', models.BigIntegerField()),
                ('block', models.BigIntegerField()),
                ('sender', models.CharField(max_length=42)),
                ('units', models.BigIntegerField()),
                ('surplus_units', models.BigIntegerField(default=0)),
                ('state', models.CharField(choices=[('seen', 'Seen'), ('orphaned', 'Orphaned'), ('counted', 'Counted'), ('waiting', 'Waiting'), ('lost', 'Lost')], default='seen', max_length=10)),
                ('why', models.CharField(blank=True, max_length=100)),
                ('resolution', models.CharField(blank=True, choices=[('credited', 'Credited'), ('dismissed', 'Dismissed')], max_length=10)),
                ('resolved_by', models.CharField(blank=True, max_length=80)),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('seen_at', models.DateTimeField()),
                ('grant', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='coin_transfer', to='billing.grant')),
                ('quote', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='transfers', to='billing.coinquote')),
            ],
            options={
                'indexes': [models.Index(fields=['quote', 'state'], name='coin_transfer_of_quote')],
                'constraints': [models.UniqueConstraint(fields=('network', 'tx_hash', 'log_index'), name='one_coin_transfer_per_log'), models.CheckConstraint(condition=models.Q(('surplus_units__gte', 0), ('units__gt', 0), ('units__gte', models.F('surplus_units'))), name='coin_transfer_is_positive'), models.CheckConstraint(condition=models.Q(models.Q(('resolution', ''), ('resolved_at', None)), models.Q(models.Q(('resolution', ''), _negated=True), ('resolved_at__isnull', False)), _connector='OR'), name='coin_transfer_resolved_has_a_time'), models.CheckConstraint(condition=models.Q(models.Q(('grant__isnull', False), ('resolution', 'credited')), models.Q(models.Q(('resolution', 'credited'), _negated=True), ('grant', None)), _connector='OR'), name='coin_transfer_granted_iff_credited')],
            },
        ),
        migrations.CreateModel(
            name='SimulatedTransfer',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('tx_hash', models.CharField(max_length=66)),
                ('log_index', models.BigIntegerField()),
                ('token', models.CharField(max_length=42)),
                ('sender', models.CharField(max_length=42)),
                ('recipient', models.CharField(max_length=42)),
                ('units', models.BigIntegerField()),
                ('copies', models.PositiveSmallIntegerField(default=1)),
                ('block', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='transfers', to='billing.simulatedblock')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tx_hash', 'log_index'), name='one_simulated_transfer_per_log')],
            },
        ),
    ]
