"""Coins that have to go back, and what the database refuses of them; see sql/0029_coin_refunds.sql."""

from pathlib import Path

import uuid_utils.compat
from django.db import migrations, models

SQL = Path(__file__).parent / "sql"
REVERSE = """
drop trigger never_deleted on billing_coinrefund;
drop function billing_check_coin_refund cascade;
drop function billing_guard_coin_refund cascade;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0028_bank_undos'),
    ]

    operations = [
        migrations.CreateModel(
            name='CoinRefund',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=200, unique=True)),
                ('reference', models.CharField(db_index=True, max_length=200)),
                ('network', models.CharField(max_length=60)),
                ('token', models.CharField(max_length=42)),
                ('recipient', models.CharField(max_length=42)),
                ('units', models.BigIntegerField()),
                ('amount', models.BigIntegerField()),
                ('first_block', models.BigIntegerField()),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('sent', 'Sent'), ('confirmed', 'Confirmed'), ('failed', 'Failed')], default='pending', max_length=10)),
                ('tx_hash', models.CharField(blank=True, max_length=66)),
                ('block', models.BigIntegerField(blank=True, null=True)),
                ('why', models.CharField(blank=True, max_length=200)),
                ('sent_by', models.CharField(blank=True, max_length=80)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
                ('settled_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('state__in', ['pending', 'sent'])), fields=['created_at'], name='coin_refund_waiting')],
                'constraints': [models.CheckConstraint(condition=models.Q(('amount__gt', 0), ('units__gt', 0)), name='coin_refund_is_positive'), models.CheckConstraint(condition=models.Q(models.Q(('sent_at', None), ('state', 'pending'), ('tx_hash', '')), ('state', 'failed'), models.Q(('sent_at__isnull', False), ('state__in', ['sent', 'confirmed']), models.Q(('tx_hash', ''), _negated=True)), _connector='OR'), name='coin_refund_sent_names_its_transaction'), models.CheckConstraint(condition=models.Q(models.Q(('settled_at', None), ('state__in', ['pending', 'sent'])), models.Q(('settled_at__isnull', False), ('state__in', ['confirmed', 'failed'])), _connector='OR'), name='coin_refund_settled_iff_final'), models.CheckConstraint(condition=models.Q(('block', None), ('block__gte', models.F('first_block')), _connector='OR'), name='coin_refund_is_newer_than_its_asking'), models.UniqueConstraint(condition=models.Q(('state__in', ['sent', 'confirmed'])), fields=('network', 'tx_hash', 'recipient'), name='one_coin_refund_per_transaction')],
            },
        ),
        migrations.RunSQL((SQL / "0029_coin_refunds.sql").read_text(), reverse_sql=REVERSE),
    ]
