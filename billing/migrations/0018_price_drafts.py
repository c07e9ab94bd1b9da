"""Drafts of price books, and an end for an account's own book."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("billing", "0017_credit_note_guards"),
    ]

    operations = [
        migrations.CreateModel(
            name='PriceDraft',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=80)),
                ('prices', models.JSONField(default=list)),
                ('version', models.PositiveIntegerField(default=1)),
                ('actor', models.CharField(blank=True, max_length=80)),
                ('created_at', models.DateTimeField()),
                ('changed_at', models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name='pricebook',
            name='actor',
            field=models.CharField(blank=True, max_length=80),
        ),
        migrations.AddField(
            model_name='pricebook',
            name='valid_until',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='pricebook',
            constraint=models.CheckConstraint(condition=models.Q(('valid_until', None), ('account__isnull', False), _connector='OR'), name='only_an_accounts_own_book_ends'),
        ),
        migrations.AddField(
            model_name='pricedraft',
            name='account',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='price_drafts', to='billing.account'),
        ),
    ]
